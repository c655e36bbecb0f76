// Rows of a Q8_0 table by id, one thread an element.

const THREADS = 64u;
const BLOCK = 32u;

struct Params {
    // Elements in all: ids * cols.
    count: u32,
    cols: u32,
    // Row of the whole table that this binding begins with, and rows in it. Other rows are left alone.
    first: u32,
    rows: u32,
    // Words of `scales` that a row takes.
    scale_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
// Four signed bytes a word, the lowest byte first.
@group(0) @binding(2) var<storage, read> quants: array<u32>;
// Two f16 a word, the lower half first.
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + index;
    if i < params.count {
        let id = ids[i / params.cols];
        if id >= params.first && id - params.first < params.rows {
            let row = id - params.first;
            let col = i % params.cols;
            let word = quants[(row * params.cols + col) / 4u];
            let quant = bitcast<i32>(word << (24u - col % 4u * 8u)) >> 24u;
            let pair = unpack2x16float(scales[row * params.scale_stride + col / BLOCK / 2u]);
            let scale = select(pair.x, pair.y, col / BLOCK % 2u == 1u);
            y[i] = f32(quant) * scale;
        }
    }
}
