// bun-uring: the public names.
//
// `listen` and `connect` have the shape of Bun's; `Ring` and its operations are the engine below.

export { type Batch, type BatchResult, type Member } from "./batch.ts";
export { NativeBlock } from "./block.ts";
export type { BorrowedChunk } from "./borrowed.ts";
export {
  BufferPool,
  type BufferPoolOptions,
  type BufferPoolStats,
  PooledBuffer,
} from "./buffer.ts";
export type { RangeOptions, Source, Target, Transferred } from "./cargo.ts";
export { connect, type ConnectOptions } from "./connect.ts";
export {
  udpSocket,
  type ConnectedDatagramSocket,
  type DatagramAddress,
  type DatagramSocket,
  type UnixDatagramSocket,
} from "./datagram.ts";
export type {
  DatagramHandler,
  DatagramOptions,
  DatagramType,
  DatagramTypes,
  ReceiveFlags,
} from "./datagram_options.ts";
export { UringError, type ErrorCode, type ErrorPhase } from "./errors.ts";
export type { BinaryType, BinaryTypes, Reload, SocketHandler } from "./handlers.ts";
export type { ChainOptions, SendOneOptions, SendOptions } from "./lending.ts";
export {
  listen,
  type Listener,
  type ListenOptions,
  type SocketName,
  type TCPSocketListener,
  type UnixSocketListener,
} from "./listen.ts";
export type { BeatHandler, Interval, IntervalOptions } from "./interval.ts";
export type { NumericAddress } from "./memory.ts";
export type { Message } from "./message.ts";
export type { OffloadJob } from "./offload.ts";
export { type Callback, Operation, type OperationOptions } from "./operation.ts";
export type { CancelFilter, File, PollEvents, PollOptions } from "./operation/control.ts";
export type { SpliceOptions, TransferOptions, VectorOptions } from "./operation/file.ts";
export type {
  OpenOptions,
  Path,
  PathOptions,
  RenameOptions,
  StatusOptions,
} from "./operation/path.ts";
export type {
  Accepted,
  MessageOptions,
  ReceiveMessageOptions,
  SendMessageOptions,
  SocketAddress,
  SocketTransferOptions,
} from "./operation/socket.ts";
export type { ProxyProtocol } from "./proxy_protocol.ts";
export { proxy, type PipeOptions } from "./piping.ts";
export type {
  PostData,
  Poster,
  PostHandler,
  PostKeys,
  PostSubscription,
  Token,
} from "./post.ts";
export { prepare, type AnyPrepared, type Prepared, type PreparedKind } from "./prepare.ts";
export {
  type BufferRegistration,
  type FileRegistration,
  RegisteredBuffer,
  RegisteredFile,
  type RegistrableBuffer,
  type UnregisterOptions,
} from "./registered.ts";
export {
  Ring,
  type CloseOptions,
  type LinkOptions,
  type RegistrationInspection,
  type RingInspection,
} from "./ring.ts";
export type { BackendName, FeatureName, OperationName, RingOptions } from "./ring_options.ts";
export type { ScheduleOptions } from "./schedule.ts";
export { serve, type Distribution, type ServeOptions, type Server } from "./serve.ts";
export { listenFds, type ListenFd } from "./serve_activation.ts";
export type { Service, ServiceContext, WorkerRingOptions } from "./serve_messages.ts";
export type { ServerStats } from "./serve_stats.ts";
export type { Socket } from "./socket.ts";
export type { FileStatus } from "./statx.ts";
export type { Latency, RingStats } from "./stats.ts";
export type { ChainResult } from "./stream_cargo.ts";
export type { Deadline } from "./timer.ts";
export type { Watch, WatchEvent, WatchHandler } from "./watch.ts";
export type { RingWorker, WorkerExit, WorkerOptions } from "./worker.ts";
export type { WorkerContext } from "./worker_context.ts";
export type { QueueOptions, QueueStats } from "./worker_queue.ts";
