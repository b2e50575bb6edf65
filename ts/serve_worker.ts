// The program of a server's Worker: loads the module, listens, counts, and ends in order.
//
// It has a ring of its own, and a listener or what the acceptor hands over. What the module or a
// handler throws uncaught ends the Worker; the server starts another.

import { describeError, tellOfDeath } from "./described_error.ts";
import { argumentError } from "./errors.ts";
import type { BinaryType } from "./handlers.ts";
import { listen } from "./listen.ts";
import { Ring } from "./ring.ts";
import { Intake, type Door } from "./serve_intake.ts";
import type { Service, Share, StartMessage, ToServer, ToWorker } from "./serve_messages.ts";

declare const self: Worker;

type AnyService = Service<unknown, BinaryType>;

/** How often a Worker that stops counts its connections, milliseconds. Handlers can be replaced by
 * `reload`, so nobody could tell of the last one. */
const COUNT_MS = 5;

interface Serving {
  readonly ring: Ring;
  readonly service: AnyService;
  readonly door: Door;
}

let serving: Serving | null = null;
let stopping = false;

tellOfDeath((error) => tell({ kind: "failed", error }));

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "start") return start(data);
  if (serving === null) return;
  if (data.kind === "stop") return stop(serving, data.close);
  tell({ kind: "stats", request: data.request, share: shareOf(serving) });
};

function tell(message: ToServer): void {
  self.postMessage(message);
}

async function start(order: StartMessage): Promise<void> {
  try {
    const ring = order.ring === undefined ? Ring.default : new Ring(order.ring);
    const service = await load(order, ring);
    serving = { ring, service, door: openDoor(order, service, ring) };
    tell({ kind: "ready", token: order.handover === null ? 0 : ring.token.id });
  } catch (error) {
    tell({ kind: "failed", error: describeError(error) });
  }
}

async function load(order: StartMessage, ring: Ring): Promise<AnyService> {
  const exports = await import(order.module) as { default?: unknown };
  const { id, workers, data } = order;
  const given = exports.default;
  const service: unknown = typeof given === "function"
    ? await given({ id, workers, data, ring })
    : given;
  if (typeof service === "object" && service !== null && "socket" in service) {
    return service as AnyService;
  }
  const expected = "an object with `socket`, or a function that returns one";
  throw argumentError("serve", `the default export of ${order.module}`, expected, service);
}

function openDoor(order: StartMessage, service: AnyService, ring: Ring): Door {
  if (order.handover !== null) {
    return new Intake(ring, service, order.handover, (error) => {
      tell({ kind: "refused", error: describeError(error) });
    });
  }
  const { stopping: _stopping, stopped: _stopped, ...options } = service;
  return listen<unknown, BinaryType>({ ...options, ...order.place, ring, reusePort: true });
}

function shareOf({ door, ring }: Serving): Share {
  return { connections: door.connectionCount, ring: ring.stats() };
}

async function stop({ ring, service, door }: Serving, close: boolean): Promise<void> {
  door.stop(close);
  if (stopping) return;
  stopping = true;
  await service.stopping?.();
  while (door.connectionCount > 0) {
    await new Promise((resolve) => setTimeout(resolve, COUNT_MS));
  }
  await service.stopped?.();
  const share = { connections: 0, ring: ring.stats() };
  await ring.close({ cancel: true });
  tell({ kind: "stopped", share });
}
