// serve(): one server in several Workers, each with a ring of its own.
//
//     module ─▶ Worker 0: ring, listener ─┐                    distribution "reuse-port":
//               Worker 1: ring, listener ─┼─ one port           the kernel spreads connections
//     server ───── holds the port ────────┘
//
//     server ─▶ acceptor ──descriptors in turn──▶ Workers       distribution "round-robin"
//
// Handlers cannot cross to a Worker, so they are what a module exports. This half checks options,
// binds, and is what the user holds; Workers are the business of serve_crew.ts.

import { availableParallelism } from "node:os";
import { readPlace, type Place, type PlaceOptions } from "./address.ts";
import { argumentError, checkBoolean, checkInteger, UringError } from "./errors.ts";
import { Ring } from "./ring.ts";
import { Acceptor, HANDOVER_KEY } from "./serve_acceptor.ts";
import { Crew, type CrewPlan } from "./serve_crew.ts";
import type { OwnPlace, StartMessage, WorkerRingOptions } from "./serve_messages.ts";
import { bindPlace, type BoundPlace } from "./serve_place.ts";
import { readSignals, SignalWatch } from "./serve_signals.ts";
import { sumShares, type ServerStats } from "./serve_stats.ts";
import { withoutTls } from "./tls.ts";
import { readModule } from "./worker_module.ts";

/** How connections get to the Workers. */
export type Distribution = "reuse-port" | "round-robin";

export interface ServeOptions extends PlaceOptions {
  /**
   * The module that each Worker runs: a URL, or a path, relative to the working directory. Its
   * default export is a `Service`, or a function that returns one.
   */
  module: string | URL;
  /** How many Workers, up to 512. Default: one per CPU. */
  workers?: number;
  /**
   * "reuse-port": each Worker has a listener, the kernel spreads connections. "round-robin": one
   * acceptor hands them to the Workers in turn. Default: the former for ports, the latter, which is
   * all there is for them, for Unix sockets and descriptors.
   */
  distribution?: Distribution;
  /** Connections that may wait to be accepted, per listener: listen(2). Default 4096. */
  backlog?: number;
  /** An IPv6 server takes no IPv4 connections: IPV6_V6ONLY. */
  ipv6Only?: boolean;
  /** Other processes of the same user may listen on the port, too: for a restart without a gap. */
  reusePort?: boolean;
  /** For each Worker's ring. Default: those of `new Ring()`. */
  ringOptions?: WorkerRingOptions;
  /** Cloned, for the module's function. */
  workerData?: unknown;
  /**
   * Milliseconds that `stop` gives open connections to end by themselves; then they are closed, and
   * a second later what is left is terminated. Default 10 000.
   */
  stopTimeout?: number;
  /** The pause before a dead Worker is replaced; it doubles up to 30 000. Default 100. */
  restartDelay?: number;
  /** Stops and ends the process on these signals; `true` is SIGINT and SIGTERM. Default: none. */
  signals?: boolean | readonly NodeJS.Signals[];
  /**
   * Told of what goes wrong in a Worker: what it died of, and in how many milliseconds another
   * takes its place (null: it goes on, or the server stops). Default: console.error.
   */
  onError?: (error: Error, worker: number, restartIn: number | null) => void;
  /** Told of each Worker that accepts connections, also of one that takes another's place. */
  onStart?: (worker: number) => void;
}

const BACKLOG = 4096;
const WORKERS_MAX = 512;
const STOP_TIMEOUT_MS = 10_000;
const RESTART_DELAY_MS = 100;

/** The server's own ring: it accepts and hears of what was taken, and has no connections. */
const OWN_RING = { entries: 64, connections: 1, stagingBlocks: 1, receiveBlocks: 0 };

/**
 * Serves a port, a Unix socket or a descriptor in several Workers. Resolves when all of them
 * accept. Wrong arguments throw at once; it rejects if the place cannot be had ("EADDRINUSE",
 * "EACCES", "EADDRNOTAVAIL") or with what a Worker's module throws at its start.
 */
export function serve(options: ServeOptions): Promise<Server> {
  const plan = readPlan(options);
  return open(options, plan);
}

interface Plan {
  readonly place: Place;
  readonly distribution: Distribution;
  readonly module: string;
  readonly workers: number;
  readonly backlog: number;
  readonly ipv6Only: boolean;
  readonly reusePort: boolean;
  readonly stopTimeout: number;
  readonly restartDelay: number;
  readonly signals: readonly NodeJS.Signals[];
}

function readPlan(options: ServeOptions): Plan {
  if (typeof options !== "object" || options === null) {
    throw argumentError("serve", "options", "an object", options);
  }
  for (const name of ["onError", "onStart"] as const) {
    if (options[name] === undefined || typeof options[name] === "function") continue;
    throw argumentError("serve", name, "a function", options[name]);
  }
  const integer = (name: keyof ServeOptions, least: number, most: number, preset: number) =>
    checkInteger("serve", name, options[name] ?? preset, least, most);
  const place = readPlace("listen", options, withoutTls);
  return {
    place,
    distribution: readDistribution(options.distribution, place),
    module: readModule("serve", options.module),
    workers: integer("workers", 1, WORKERS_MAX, Math.min(availableParallelism(), WORKERS_MAX)),
    backlog: integer("backlog", 1, 65535, BACKLOG),
    ipv6Only: checkBoolean("serve", "ipv6Only", options.ipv6Only ?? false),
    reusePort: readSharing(options.reusePort, place),
    stopTimeout: integer("stopTimeout", 0, 0x7fff_0000, STOP_TIMEOUT_MS),
    restartDelay: integer("restartDelay", 1, 60_000, RESTART_DELAY_MS),
    signals: readSignals(options.signals),
  };
}

function readSharing(given: unknown, place: Place): boolean {
  const reusePort = checkBoolean("serve", "reusePort", given ?? false);
  const hasPort = place.unix === null && place.fd === null;
  if (hasPort || !reusePort) return reusePort;
  const message = `serve on ${place.text}: only a port can be shared, by \`reusePort\``;
  throw new UringError("EINVAL", "serve", message);
}

function readDistribution(given: unknown, place: Place): Distribution {
  const hasPort = place.unix === null && place.fd === null;
  const distribution = given ?? (hasPort ? "reuse-port" : "round-robin");
  if (distribution !== "reuse-port" && distribution !== "round-robin") {
    throw argumentError("serve", "distribution", "\"reuse-port\" or \"round-robin\"", given);
  }
  if (hasPort || distribution === "round-robin") return distribution;
  const message = `serve on ${place.text}: only a port can have several listeners; its ` +
    "distribution is \"round-robin\"";
  throw new UringError("EINVAL", "serve", message);
}

async function open(options: ServeOptions, plan: Plan): Promise<Server> {
  const { backend } = options.ringOptions ?? {};
  const ring = new Ring({ ...OWN_RING, ...(backend !== undefined && { backend }) });
  let bound: BoundPlace | null = null;
  try {
    const own = plan.distribution === "reuse-port";
    bound = await bindPlace(ring, plan.place, { ...plan, backlog: own ? 0 : plan.backlog });
    const server = new Server(options, plan, ring, bound);
    await server.begin();
    return server;
  } catch (error) {
    bound?.close();
    await ring.close({ cancel: true });
    throw error;
  }
}

export class Server implements AsyncDisposable {
  readonly #plan: Plan;
  readonly #ring: Ring;
  readonly #bound: BoundPlace;
  readonly #crew: Crew;
  readonly #acceptor: Acceptor | null = null;
  readonly #signals: SignalWatch;
  #stopping: Promise<void> | null = null;

  /** @internal Servers come from `serve`. */
  constructor(options: ServeOptions, plan: Plan, ring: Ring, bound: BoundPlace) {
    this.#plan = plan;
    this.#ring = ring;
    this.#bound = bound;
    const { onError = reportError, onStart } = options;
    this.#crew = new Crew(this.#crewPlan(options), {
      started: (id) => onStart?.(id),
      failed: onError,
      left: (seat) => this.#acceptor?.left(seat),
      joined: () => this.#acceptor?.go(),
    });
    if (plan.distribution === "round-robin") {
      const running = () => this.#crew.seats.filter(({ state }) => state === "running");
      this.#acceptor = new Acceptor(ring, bound.fd, running, (error) => onError(error, -1, null));
    }
    this.#signals = new SignalWatch(plan.signals, () => this.stop());
  }

  #crewPlan({ ringOptions, workerData }: ServeOptions): CrewPlan {
    const { module, workers, restartDelay, distribution } = this.#plan;
    const own = distribution === "reuse-port";
    const start: Omit<StartMessage, "id" | "kind"> = {
      module,
      workers,
      data: workerData,
      ring: ringOptions,
      place: own ? this.#ownPlace() : null,
      handover: own ? null : { token: this.#ring.token.unref().id, key: HANDOVER_KEY },
    };
    return { workers, restartDelay, start };
  }

  #ownPlace(): OwnPlace {
    const { host, port } = this.#bound.address as { host: string; port: number };
    const { backlog, ipv6Only } = this.#plan;
    return { hostname: host, port, backlog, ipv6Only };
  }

  /** @internal */
  async begin(): Promise<void> {
    try {
      await this.#crew.start();
    } catch (error) {
      this.#signals[Symbol.dispose]();
      await this.#acceptor?.silence();
      await this.#acceptor?.settle(0);
      await this.#crew.stop(true, 0);
      throw error;
    }
  }

  /** The port bound, also where 0 was asked for; undefined for a Unix socket. */
  get port(): number | undefined {
    return this.#isUnix ? undefined : this.#bound.address?.port;
  }

  /** The host name as it was given, the address of a descriptor; undefined for a Unix socket. */
  get hostname(): string | undefined {
    return this.#isUnix ? undefined : this.#plan.place.hostname || this.#bound.address?.host;
  }

  /** The path of a Unix socket, else undefined. */
  get unix(): string | undefined {
    return this.#isUnix ? this.#plan.place.unix ?? this.#bound.address?.host : undefined;
  }

  get #isUnix(): boolean {
    return this.#plan.place.unix !== null || this.#bound.address?.family === "unix";
  }

  get distribution(): Distribution {
    return this.#plan.distribution;
  }

  /** Workers that accept connections now. */
  get workers(): number {
    return this.#crew.seats.filter(({ state }) => state === "running").length;
  }

  /** Sums over the Workers' rings. A Worker that died has taken its counts with it. */
  async stats(): Promise<ServerStats> {
    const { running, past } = await this.#crew.shares();
    return sumShares(running, past, this.#crew.restarts);
  }

  /**
   * Accepts no more, and resolves when every Worker has ended: when its connections are closed,
   * `stopTimeout` and a second at most. With `true` open connections are closed now.
   */
  stop(closeActiveConnections = false): Promise<void> {
    checkBoolean("stop", "closeActiveConnections", closeActiveConnections);
    if (this.#stopping !== null && closeActiveConnections) this.#crew.closeConnections();
    this.#stopping ??= this.#stop(closeActiveConnections);
    return this.#stopping;
  }

  async #stop(close: boolean): Promise<void> {
    const { stopTimeout } = this.#plan;
    this.#signals[Symbol.dispose]();
    const before = performance.now();
    await this.#acceptor?.silence();
    this.#bound.close();
    await this.#acceptor?.settle(stopTimeout);
    await this.#crew.stop(close, Math.max(0, stopTimeout - (performance.now() - before)));
    await this.#ring.close({ cancel: true });
  }

  /** As `stop(true)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop(true);
  }

  /** The process stays alive while the server runs: the default. */
  ref(): void {
    this.#crew.reference(true);
  }

  unref(): void {
    this.#crew.reference(false);
  }
}

function reportError(error: Error, worker: number, restartIn: number | null): void {
  const who = worker < 0 ? "the acceptor" : `Worker ${worker}`;
  const then = restartIn === null ? "" : `; another starts in ${restartIn} ms`;
  console.error(`bun-uring: serve: ${who} failed${then}:`, error);
}
