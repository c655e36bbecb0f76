// Rows of an f32 table by id, one thread an element.

const THREADS = 64u;

struct Params {
    // Elements in all: ids * cols.
    count: u32,
    cols: u32,
    // Row of the whole table that this binding begins with, and rows in it. Other rows are left alone.
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
            y[i] = table[(id - params.first) * params.cols + i % params.cols];
        }
    }
}
