// Runs a program of WebAssembly, which sees the files of this machine: node tests/c/wasi.mjs PROGRAM ...
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";
const [program, ...files] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program, ...files], preopens: { "/": "/" } });
const module = await WebAssembly.compile(await readFile(program));
process.exit(wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject())));
