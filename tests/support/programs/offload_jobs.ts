// Jobs that `offload` takes from a module: the default export, a named one, and what is no
// function.

export default function sum(...numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

export async function shout(text: string): Promise<string> {
  return `${text.toUpperCase()}!`;
}

export const nothing = 7;
