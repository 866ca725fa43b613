//! Node.js: a large runtime whose own compiler writes machine code while it runs.

use dhow_model::Arch;

use super::{Check, Gate, words};
use crate::images::Image;
use crate::judge::Expect;

const PUBLIC: &str = "node:lts-slim";

pub(super) fn checks(arch: Arch) -> Vec<Check> {
    let check = |name, about, code: &str| {
        Check::new(Gate::B, name, about, Image::Node, words(&["node", "-e", code])).public(PUBLIC).patient()
    };
    let node = match arch {
        Arch::Amd64 => "x64",
        Arch::Arm64 => "arm64",
    };
    vec![
        check("node", "Node.js starts, and says what it is for", HELLO)
            .expects(Expect::says(format!("{node} 1,2,3 {{\"a\":1}} 5"))),
        check("node jit", "V8 compiles a hot loop, and WebAssembly", JIT).expects(Expect::says("42538 42")),
        check("node workers", "four workers on shared memory", WORKERS).expects(Expect::says("40000")),
    ]
}

const HELLO: &str =
    "console.log(process.arch, [3, 1, 2].sort().join(), JSON.stringify({ a: 1 }), Math.hypot(3, 4))";

/// The module is `(func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)`.
const JIT: &str = "function f(n) { let s = 0; for (let i = 0; i < n; i++) s = (s + i * i) % 1000003; return s }
let r = 0; for (let k = 0; k < 100; k++) r = f(5000);
const w = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);
console.log(r, new WebAssembly.Instance(new WebAssembly.Module(w)).exports.add(2, 40))";

const WORKERS: &str = "const { Worker } = require('worker_threads');
const shared = new Int32Array(new SharedArrayBuffer(4));
const code = `const { workerData } = require('worker_threads'); for (let i = 0; i < 10000; i++) Atomics.add(workerData, 0, 1)`;
let left = 4;
for (let i = 0; i < 4; i++) new Worker(code, { eval: true, workerData: shared }).on('exit', () => { if (--left === 0) console.log(shared[0]) })";
