// bun-uring: the public names.
//
// `listen` and `connect` have the shape of Bun's; `Ring` is the engine below them.

export { connect, type ConnectOptions } from "./connect.ts";
export { UringError, type ErrorCode, type ErrorPhase } from "./errors.ts";
export { listen, type Listener, type ListenOptions } from "./listen.ts";
export {
  Ring,
  type BackendName,
  type FeatureName,
  type RingOptions,
  type RingStats,
} from "./ring.ts";
export { type BinaryType, type BinaryTypes, type Socket, type SocketHandler } from "./socket.ts";
