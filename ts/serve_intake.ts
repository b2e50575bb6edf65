// Handed-over connections, in the Worker that gets them: the other half of serve_acceptor.ts.
//
//     acceptor ──post(ticket)──▶ intake: take the descriptor ──post(ticket)──▶ acceptor: forget it
//
// Taking and telling are one call of the library. A Worker that dies has done both or neither: no
// connection is lost, and none is closed twice.

import { ERRNO } from "./abi.ts";
import type { ConnectionReceiver } from "./completion.ts";
import type { Opening } from "./connection.ts";
import { resultError, UringError } from "./errors.ts";
import type { BinaryType, Handlers } from "./handlers.ts";
import { readServing } from "./listen.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";
import { descriptorOf, SHORTAGE_MS } from "./serve_acceptor.ts";
import type { Service, StartMessage } from "./serve_messages.ts";
import { Socket } from "./socket.ts";

/** What a Worker accepts from: a `Listener`, or an `Intake`. */
export interface Door {
  readonly connectionCount: number;
  stop(closeActiveConnections?: boolean): void;
}

export class Intake<Data> implements Door {
  readonly #ring: Ring;
  readonly #handlers: Handlers;
  readonly #data: Data;
  readonly #key: number;
  readonly #token: number;
  readonly #onRefused: (error: UringError) => void;
  readonly #sockets = new Set<Socket<Data>>();
  /** Handed over while there was no slot for them. */
  readonly #late: number[] = [];
  #pause: Timer | null = null;

  constructor(
    ring: Ring,
    service: Service<Data, BinaryType>,
    handover: NonNullable<StartMessage["handover"]>,
    onRefused: (error: UringError) => void,
  ) {
    if (service.proxyProtocol !== undefined) {
      const message = "serve: proxyProtocol needs listeners of the Workers' own: a port, and " +
        "distribution \"reuse-port\"";
      throw new UringError("EINVAL", "serve", message);
    }
    this.#ring = ring;
    this.#handlers = readServing("serve", service);
    this.#data = service.data as Data;
    this.#key = handover.key;
    this.#token = handover.token;
    this.#onRefused = onRefused;
    ring.onPost(handover.key, (ticket: number) => this.#take(ticket));
  }

  get connectionCount(): number {
    return this.#sockets.size;
  }

  /** The acceptor has stopped before: nothing more is handed over. */
  stop(closeActiveConnections = false): void {
    if (closeActiveConnections) for (const socket of [...this.#sockets]) socket.close();
  }

  #take(ticket: number): void {
    if (this.#late.length > 0 || !this.#took(ticket)) this.#wait(ticket);
  }

  /** False if there is no slot for it now. */
  #took(ticket: number): boolean {
    const { handle } = this.#ring;
    const fd = descriptorOf(ticket);
    const index = native.bu_connection_take(handle, fd, this.#token, this.#key, ticket);
    if (index >= 0) this.#welcome(index);
    else if (index === -ERRNO.ENOMEM) return false;
    else if (index !== -ERRNO.ESHUTDOWN) this.#refuse(index); // the server itself is gone
    return true;
  }

  #refuse(outcome: number): void {
    this.#onRefused(resultError(outcome, "serve", "took no connection", "completion"));
  }

  #wait(ticket: number): void {
    this.#late.push(ticket);
    this.#pause ??= setTimeout(() => this.#takeLate(), SHORTAGE_MS);
  }

  #takeLate(): void {
    while (this.#late.length > 0 && this.#took(this.#late[0] as number)) this.#late.shift();
    this.#pause = this.#late.length === 0
      ? null
      : setTimeout(() => this.#takeLate(), SHORTAGE_MS);
  }

  #welcome(index: number): void {
    const socket = new Taken<Data>(this.#ring, this.#handlers, this.#data, this.#sockets);
    socket.attach(index, this.#ring.claimedGeneration());
    this.#ring.loop.touch();
  }
}

/** It is connected already: there is nothing to try again, and nobody who waits. */
const OPENING: Opening = {
  abandoned: false,
  retry: () => false,
  failure: (result) => resultError(result, "serve", "lost a connection", "completion"),
  settled() {},
};

class Taken<Data> extends Socket<Data> implements ConnectionReceiver {
  readonly #all: Set<Socket<Data>>;

  constructor(ring: Ring, handlers: Handlers, data: Data, all: Set<Socket<Data>>) {
    super(ring, handlers, data, undefined, OPENING);
    this.#all = all;
    all.add(this);
  }

  override onClose(result: number): unknown {
    this.#all.delete(this);
    return super.onClose(result);
  }
}
