// What TLS asks of a socket that has none: Bun's names, with the answers of Bun's plain sockets.
//
// Questions are answered as Bun answers them for a connection without TLS. What would turn TLS on,
// or change it, throws: a program that asks for it must not go on in the clear.

import { UringError } from "./errors.ts";
import { Piping } from "./piping.ts";

/** The error of everything that needs TLS. */
export function withoutTls(operation: string): UringError {
  const message =
    `${operation}: TLS is not supported; put a TLS proxy in front, or use Bun.listen and ` +
    "Bun.connect for these connections";
  return new UringError("EOPNOTSUPP", operation, message);
}

export abstract class WithoutTls<Data> extends Piping<Data> {
  get authorized(): boolean {
    return false;
  }

  get alpnProtocol(): false {
    return false;
  }

  getAuthorizationError(): null {
    return null;
  }

  getCertificate(): undefined {}

  getCipher(): undefined {}

  getEphemeralKeyInfo(): null {
    return null;
  }

  getPeerCertificate(): null {
    return null;
  }

  getServername(): undefined {}

  getSession(): undefined {}

  getSharedSigalgs(): undefined {}

  getTLSFinishedMessage(): undefined {}

  getTLSPeerFinishedMessage(): undefined {}

  getTLSTicket(): undefined {}

  getTLSVersion(): null {
    return null;
  }

  getX509Certificate(): undefined {}

  getPeerX509Certificate(): undefined {}

  isSessionReused(): false {
    return false;
  }

  /** There is none to be disabled. */
  disableRenegotiation(): void {}

  setMaxSendFragment(_size: number): false {
    return false;
  }

  exportKeyingMaterial(_length: number, _label: string, _context?: unknown): never {
    throw withoutTls("exportKeyingMaterial");
  }

  renegotiate(): never {
    throw withoutTls("renegotiate");
  }

  setServername(_name: string): never {
    throw withoutTls("setServername");
  }

  setSession(_session: unknown): never {
    throw withoutTls("setSession");
  }

  setVerifyMode(_requestCert: boolean, _rejectUnauthorized: boolean): never {
    throw withoutTls("setVerifyMode");
  }

  upgradeTLS(_options: unknown): never {
    throw withoutTls("upgradeTLS");
  }
}
