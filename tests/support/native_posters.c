// Threads that JavaScript knows nothing of: each posts its numbers in order, through the library's
// C symbol. Compiled by bun:ffi, which has no headers: what is needed is declared here.

typedef int (*post_function)(unsigned token, unsigned key, double data);
typedef int (*signal_function)(unsigned token);
typedef unsigned long pthread_t;

int pthread_create(pthread_t *thread, const void *attributes, void *(*run)(void *), void *argument);
int pthread_join(pthread_t thread, void **result);
int sched_yield(void);

#define THREADS_MAX 16
#define EAGAIN 11

static struct poster {
  post_function post;
  unsigned token, key, count;
  int outcome;
  pthread_t thread;
} posters[THREADS_MAX];

static void *run(void *argument) {
  struct poster *poster = argument;
  unsigned next = 0;
  while (next < poster->count) {
    poster->outcome = poster->post(poster->token, poster->key, next);
    if (poster->outcome == 0) next++;
    else if (poster->outcome == -EAGAIN) sched_yield();
    else break;
  }
  return 0;
}

int start(void *post, unsigned token, unsigned threads, unsigned count) {
  if (threads > THREADS_MAX) return -1;
  for (unsigned i = 0; i < threads; i++) {
    posters[i] = (struct poster){(post_function)post, token, i, count, 0, 0};
    if (pthread_create(&posters[i].thread, 0, run, &posters[i]) != 0) return -1;
  }
  return 0;
}

/// 0, or what the first poster was refused with.
int join(unsigned threads) {
  int outcome = 0;
  for (unsigned i = 0; i < threads; i++) {
    pthread_join(posters[i].thread, 0);
    if (outcome == 0) outcome = posters[i].outcome;
  }
  return outcome;
}

static signal_function signal_to_send;
static unsigned signal_token;

static void *send_signal(void *argument) {
  posters[0].outcome = signal_to_send(signal_token);
  return argument;
}

/// Sends bu_wakeup or bu_stop from a thread of its own: what it returned.
int send(void *signal, unsigned token) {
  pthread_t thread;
  signal_to_send = (signal_function)signal;
  signal_token = token;
  if (pthread_create(&thread, 0, send_signal, 0) != 0) return -1;
  pthread_join(thread, 0);
  return posters[0].outcome;
}
