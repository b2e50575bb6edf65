// Who may import whom, from the bottom up: a file may import from its own layer and from the ones
// above it in these lists. A new file gets its layer here, which is where its place is decided.

export const ZIG_LAYERS = [
  // The bugs for the tests ask to be put in from everywhere, and import nothing.
  /^zig\/(?:abi|abi_datagrams|poison|testing\/mutation)\.zig$/,
  /^zig\/kernel(?:\.zig$|\/)/,
  /^zig\/(?:memory|block)\.zig$/,
  /^zig\/(?:slots|staging|transfer|send_chain|registration|mailbox|stats)\.zig$/,
  /^zig\/(?:buffer_ring|datagram_buffers|proxy_protocol|deadline_heap)\.zig$/,
  /^zig\/(?:operation(?:\.zig$|\/)|segment\.zig$)/,
  /^zig\/testing\/faults\.zig$/,
  // Connections and operations: what they submit, and what comes of it.
  new RegExp(
    "^zig/(?:features|connection|companion|deadlines|timers|forwarding|receiving|send\\w+" +
      "|splicing|listen|posts|submission|failure|proxied|passing)\\.zig$",
  ),
  /^zig\/(?:datagram(?:_queue|s)?|sleep)\.zig$/,
  /^zig\/engine\.zig$/,
  /^zig\/(?:calls|datagram_calls|opening|preparation|teardown)\.zig$/,
  /^zig\/rings\.zig$/,
  // The layout reflects on the exports, which hand out its hash.
  /^zig\/(?:exports(?:_posts|_datagrams|_faults)?|abi_layout)\.zig$/,
  /^zig\/(?:abi_typescript\.zig|unit_tests\.zig|simulate\.zig|testing\/.*)$/,
];

export const SCRIPT_LAYERS = [
  /^ts\/abi\.ts$/,
  /^ts\/(?:errors|described_error|releases)\.ts$/,
  /^ts\/(?:ring_options|native|memory|address|proxy_protocol)\.ts$/,
  /^ts\/(?:completion|loans|buffer|borrowed|stats)\.ts$/,
  /^ts\/(?:operation|made|mapped|reaction|registered|statx)\.ts$/,
  /^ts\/(?:cargo|stream_cargo|message|vectors)\.ts$/,
  /^ts\/(?:engine|loop|bun_loop)\.ts$/,
  /^ts\/waiting\.ts$/,
  /^ts\/(?:timer|interval)\.ts$/,
  /^ts\/operation\/timer\.ts$/,
  /^ts\/operation\/(?:control|file|path|socket)\.ts$/,
  /^ts\/(?:prepare|batch|watch|block|post|schedule|offload(?:_worker)?|worker\w*)\.ts$/,
  /^ts\/ring\.ts$/,
  /^ts\/(?:handlers|inbox|streams|connection|sending|lending|closing)\.ts$/,
  /^ts\/(?:passing|reading|piping|tls)\.ts$/,
  /^ts\/datagram_(?:options|records|settings)\.ts$/,
  /^ts\/(?:listen|connect|socket|datagram|file)\.ts$/,
  /^ts\/serve\w*\.ts$/,
  /^ts\/index\.ts$/,
];
