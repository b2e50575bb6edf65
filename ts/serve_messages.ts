// What a server and its Workers tell each other, by `postMessage`, and what a module gives.
//
//     server ──start──▶ Worker ──ready, or failed──▶ server ──stats?, stop──▶ Worker ──stopped──▶
//
// Connections that are handed over go through the rings' mailboxes instead: see serve_intake.ts.

import type { BinaryType, SharedOptions, SocketHandler } from "./handlers.ts";
import type { ListenOptions } from "./listen.ts";
import type { DescribedError } from "./described_error.ts";
import type { ProxyProtocol } from "./proxy_protocol.ts";
import type { Ring } from "./ring.ts";
import type { RingOptions } from "./ring_options.ts";
import type { RingStats } from "./stats.ts";

/** What the default export of a server's module is, or returns when it is a function. */
export interface Service<Data = undefined, Type extends BinaryType = "buffer">
  extends SharedOptions {
  /** The handlers, as `listen` takes them. */
  socket: SocketHandler<Data, Type>;
  /** What each connection's `data` starts as. */
  data?: Data;
  /** As of `listen`; only where each Worker has a listener of its own. */
  proxyProtocol?: ProxyProtocol;
  /** The server stops: no more connections come. Here a module ends those that are idle. */
  stopping?(): unknown;
  /** The last connection is closed. The Worker ends when what this returns is settled. */
  stopped?(): unknown;
}

/** What a module's function is told of its Worker. */
export interface ServiceContext {
  /** From 0; a Worker that takes the place of one that died has the same. */
  readonly id: number;
  /** How many Workers the server has. */
  readonly workers: number;
  /** The option `workerData`, cloned. */
  readonly data: unknown;
  /** The Worker's ring, on which it listens. */
  readonly ring: Ring;
}

/** Options of `RingOptions` that can go to another thread. */
export type WorkerRingOptions = Omit<RingOptions, "onLog" | "onStarved">;

/** Where a Worker listens: with a socket of its own, or not at all. */
export type OwnPlace = Pick<ListenOptions, "hostname" | "backlog" | "ipv6Only"> & { port: number };

export interface StartMessage {
  readonly kind: "start";
  readonly module: string;
  readonly id: number;
  readonly workers: number;
  readonly data: unknown;
  readonly ring: WorkerRingOptions | undefined;
  /** Null where connections are handed over: by posts with this key, answered to this token. */
  readonly place: OwnPlace | null;
  readonly handover: { readonly token: number; readonly key: number } | null;
}

export type ToWorker =
  | StartMessage
  | { readonly kind: "stats"; readonly request: number }
  /** `close`: open connections are closed, too. */
  | { readonly kind: "stop"; readonly close: boolean };

/** One Worker's share of the statistics. */
export interface Share {
  readonly connections: number;
  readonly ring: RingStats;
}

export type ToServer =
  /** The token is for what is handed over. */
  | { readonly kind: "ready"; readonly token: number }
  | { readonly kind: "failed"; readonly error: DescribedError }
  | { readonly kind: "refused"; readonly error: DescribedError }
  | { readonly kind: "stats"; readonly request: number; readonly share: Share }
  | { readonly kind: "stopped"; readonly share: Share };
