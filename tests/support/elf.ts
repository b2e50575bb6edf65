// Reads the names that a shared library defines for others, without binutils: the dynamic symbol
// table of a 64-bit little-endian ELF file (elf(5)), which is what dlsym searches.

const SECTION_HEADERS_OFFSET = 0x28;
const SECTION_HEADER_SIZE = 0x3a;
const SECTION_COUNT = 0x3c;
const TYPE_DYNAMIC_SYMBOLS = 11;
const SYMBOL_SIZE = 24;

interface Section {
  type: number;
  offset: number;
  size: number;
  /** For a symbol table: the section with its names. */
  link: number;
}

/** The defined symbols of the file's dynamic symbol table, in its order. */
export function definedSymbols(file: ArrayBuffer): string[] {
  const view = new DataView(file);
  if (view.getUint32(0) !== 0x7f454c46) throw new Error("not an ELF file");
  const sections = sectionsOf(view);
  const table = sections.find(({ type }) => type === TYPE_DYNAMIC_SYMBOLS);
  const names = table && sections[table.link];
  if (!table || !names) throw new Error("no dynamic symbol table");

  const symbols: string[] = [];
  for (let at = table.offset; at < table.offset + table.size; at += SYMBOL_SIZE) {
    const isDefined = view.getUint16(at + 6, true) !== 0;
    if (isDefined) symbols.push(textAt(file, names.offset + view.getUint32(at, true)));
  }
  return symbols;
}

function sectionsOf(view: DataView): Section[] {
  const start = Number(view.getBigUint64(SECTION_HEADERS_OFFSET, true));
  const size = view.getUint16(SECTION_HEADER_SIZE, true);
  return Array.from({ length: view.getUint16(SECTION_COUNT, true) }, (_, index) => {
    const at = start + index * size;
    return {
      type: view.getUint32(at + 4, true),
      offset: Number(view.getBigUint64(at + 24, true)),
      size: Number(view.getBigUint64(at + 32, true)),
      link: view.getUint32(at + 40, true),
    };
  });
}

function textAt(file: ArrayBuffer, offset: number): string {
  const bytes = new Uint8Array(file, offset);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}
