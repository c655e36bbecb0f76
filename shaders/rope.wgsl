// Rotates element pairs (i, i + head_dim / 2) of every head in place, one thread a pair.
//
// Sines and cosines come from the host: WGSL bounds the error of `sin` and `cos` only within [-π, π], and
// there only by 2^-11.

const THREADS = 64u;

struct Params {
    // Pairs in all: rows * heads * head_dim / 2.
    count: u32,
    // Heads of a row.
    heads: u32,
    // head_dim / 2.
    pairs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [rows, pairs]: cosine, sine.
@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + index;
    if i < params.count {
        let pair = i % params.pairs;
        let head = i / params.pairs;
        let angle = table[head / params.heads * params.pairs + pair];
        let low = head * params.pairs * 2u + pair;
        let high = low + params.pairs;
        let a = x[low];
        let b = x[high];
        x[low] = a * angle.x - b * angle.y;
        x[high] = b * angle.x + a * angle.y;
    }
}
