// An initramfs: an archive in cpio's newc form, which the kernel unpacks into memory as its root.
// See the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

import { closeSync, openSync, readdirSync, readFileSync, statSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";

const DIRECTORY = 0o040755;
const FILE = 0o100755;
const CHARACTER_DEVICE = 0o020600;

export class Initramfs {
  #file;
  #inode = 1;
  #directories = new Set(["/", "."]);

  constructor(path) {
    this.#file = openSync(path, "w");
    // Before /dev is mounted the first process already writes to it.
    this.#entry("/dev/console", CHARACTER_DEVICE, Buffer.alloc(0), [5, 1]);
  }

  /** A file or a whole folder of this machine, under another name. */
  copy(from, to, wanted = () => true) {
    if (!statSync(from).isDirectory()) return this.write(to, readFileSync(from));
    for (const name of readdirSync(from)) {
      if (wanted(join(from, name))) this.copy(join(from, name), join(to, name), wanted);
    }
  }

  write(path, bytes) {
    this.#entry(path, FILE, Buffer.from(bytes));
  }

  directory(path) {
    if (this.#directories.has(path)) return;
    this.#directories.add(path);
    this.#entry(path, DIRECTORY, Buffer.alloc(0));
  }

  close() {
    this.#entry("/TRAILER!!!", 0, Buffer.alloc(0));
    closeSync(this.#file);
  }

  #entry(path, mode, bytes, [major, minor] = [0, 0]) {
    if (path !== "/TRAILER!!!") this.directory(dirname(path));
    const name = path.slice(1);
    const fields = [
      this.#inode++, mode, 0, 0, 1, 0, bytes.length, 0, 0, major, minor, name.length + 1, 0,
    ];
    const words = fields.map((field) => field.toString(16).padStart(8, "0"));
    const header = Buffer.from(`070701${words.join("")}${name}\0`);
    for (const part of [header, bytes]) {
      writeSync(this.#file, part);
      writeSync(this.#file, Buffer.alloc(-part.length & 3));
    }
  }
}
