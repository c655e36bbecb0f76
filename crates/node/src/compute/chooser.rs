//! Which back end computes: the one that was measured to be faster, unless the user wants another.

use cdi_compute::backend::Backend;
use cdi_compute::choice::Choice;
use cdi_model::compute::ComputeError;
use cdi_types::advert::Tier;

/// A back end, and why it was chosen.
pub(super) struct Chosen {
    pub(super) backend: Backend,
    pub(super) tier: Tier,
    /// One sentence, with the figures.
    pub(super) reason: String,
}

/// Chooses. A back end that the user wants but that is not there is replaced, and the reason says so.
pub(super) async fn choose(prefer: Option<Tier>, now_ms: impl Fn() -> f64) -> Result<Chosen, ComputeError> {
    match prefer {
        Some(Tier::Cpu) => Ok(cpu("You chose the CPU.".to_owned())),
        Some(Tier::Gpu) => match Backend::gpu().await {
            Ok(backend) => {
                let name = backend.adapter().map_or_else(String::new, |report| report.name.clone());
                Ok(Chosen { backend, tier: Tier::Gpu, reason: format!("You chose the GPU: {name}.") })
            }
            Err(error) => Ok(cpu(format!("The GPU that you chose cannot be used ({error}), so the CPU computes."))),
        },
        Some(Tier::None) | None => fastest(now_ms).await,
    }
}

fn cpu(reason: String) -> Chosen {
    Chosen { backend: Backend::cpu(), tier: Tier::Cpu, reason }
}

async fn fastest(now_ms: impl Fn() -> f64) -> Result<Chosen, ComputeError> {
    let choice = Choice::fastest(now_ms).await?;
    let speed = choice.cpu.matvec_gb_s;
    let variant = choice.variant.name();
    let gpu = choice.backend.adapter().is_some();
    let reason = match &choice.gpu {
        Ok((report, probe)) => format!(
            "Measured: {} {:.1} GB/s, CPU ({variant}) {speed:.1} GB/s, so the {} computes.",
            report.name,
            probe.matvec_gb_s,
            if gpu { "GPU" } else { "CPU" }
        ),
        Err(error) => format!("No usable GPU ({error}); CPU ({variant}) {speed:.1} GB/s."),
    };
    Ok(Chosen { backend: choice.backend, tier: if gpu { Tier::Gpu } else { Tier::Cpu }, reason })
}
