// Copies new keys and values into the cache.

const THREADS = 64u;

struct Params {
    // Elements to copy from each of k and v.
    count: u32,
    // Element of the cache that the first goes to.
    target_start: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> keys: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + index;
    if i < params.count {
        keys[params.target_start + i] = k[i];
        values[params.target_start + i] = v[i];
    }
}
