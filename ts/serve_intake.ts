// Handed-over connections, in the Worker that gets them: the other half of serve_acceptor.ts.
//
//     acceptor ──post(ticket)──▶ intake: take a copy, a Socket for it ──post(ticket)──▶
//     acceptor: close the original
//
// The copy is taken in one call of the library. A Worker that dies has taken a connection or has
// not, and the original is the acceptor's all the time: none is lost, and none is closed twice.

import type { ConnectionReceiver } from "./completion.ts";
import type { Opening } from "./connection.ts";
import { resultError, UringError } from "./errors.ts";
import type { BinaryType, Handlers } from "./handlers.ts";
import { readServing } from "./listen.ts";
import { native } from "./native.ts";
import type { Poster } from "./post.ts";
import { Ring } from "./ring.ts";
import { descriptorOf } from "./serve_acceptor.ts";
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
  readonly #acceptor: Poster;
  readonly #onRefused: (error: UringError) => void;
  readonly #sockets = new Set<Socket<Data>>();

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
    this.#acceptor = Ring.open(handover.token);
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
    const index = native.bu_connection_take(this.#ring.handle, descriptorOf(ticket));
    if (index >= 0) this.#welcome(index);
    else this.#onRefused(resultError(index, "serve", "took no connection", "completion"));
    // In either case: one that nobody could take is closed.
    this.#acceptor.post(this.#key, ticket);
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
