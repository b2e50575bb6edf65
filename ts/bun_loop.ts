// Where Bun's event loop waits: the descriptor of this thread's epoll, for who waits elsewhere.
//
// Nothing tells it, but the kernel says of each epoll descriptor what is in it: Bun's is the one
// with the eventfd that it watches for us. Looked for in /proc, at most a few times; without it a
// thread that waits in the ring hears of Bun's own events when that wait is over.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const NONE = -1;

/** The epoll descriptor that has a duplicate of this eventfd in it, or -1. */
export function findLoop(eventFd: number): number {
  try {
    return search(eventFd);
  } catch {
    return NONE; // no /proc here, or it is not for us: the bounded waits remain
  }
}

function search(eventFd: number): number {
  const identity = eventIdentity(eventFd);
  if (identity === undefined) return NONE;
  const watched = new Set<string>();
  const loops: number[] = [];
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name);
    const target = targetOf(fd);
    if (target.includes("[eventpoll]")) loops.push(fd);
    else if (target.includes("[eventfd]") && eventIdentity(fd) === identity) watched.add(name);
  }
  const found = loops.find((fd) => {
    // "tfd:        8 events: 40000019 …", a line for each descriptor in it; proc_pid_fdinfo(5)
    const members = infoOf(fd).matchAll(/^tfd:\s*(\d+)/gm);
    return [...members].some(([, member]) => watched.has(member as string));
  });
  return found ?? NONE;
}

/** Duplicates of an eventfd share it. */
function eventIdentity(fd: number): string | undefined {
  return /^eventfd-id:\s*(\d+)/m.exec(infoOf(fd))?.[1];
}

function infoOf(fd: number): string {
  return readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
}

/** Empty for one that was closed meanwhile: the folder's own, or another thread's. */
function targetOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "";
  }
}
