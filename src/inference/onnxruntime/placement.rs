//! Which provider really ran which operators, as ONNX Runtime's own profile says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process};

use serde::Deserialize;

use super::session::OnnxRuntimeSession;
use super::{Graph, text};
use crate::Result;

/// The profile of one step of the largest network is far smaller.
const MAX_PROFILE_BYTES: u64 = 1 << 26;

/// For each provider the operators it ran, and how many of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    providers: BTreeMap<String, BTreeMap<String, usize>>,
}

/// The part of a profile's event that is read.
#[derive(Deserialize)]
struct Event {
    name: String,
    #[serde(default)]
    args: Arguments,
}

#[derive(Deserialize, Default)]
struct Arguments {
    #[serde(default)]
    provider: String,
    #[serde(default)]
    op_name: String,
}

impl Placement {
    /// Runs a chunk under the profiler.
    pub(super) fn probe(graph: &Arc<Graph>) -> Result<Self> {
        /// Two probes in one process write two profiles.
        static PROBES: AtomicUsize = AtomicUsize::new(0);
        let number = PROBES.fetch_add(1, Ordering::Relaxed);
        let prefix = env::temp_dir().join(format!("dfcnn-probe-{}-{number}", process::id()));
        let builder = graph.builder(1)?.with_profiling(&prefix).map_err(|error| graph.error(text(error)))?;
        let file = OnnxRuntimeSession::new(Arc::clone(graph), graph.commit(builder)?)?.profile()?;
        let read = fs::metadata(&file).and_then(|metadata| match metadata.len() {
            0..=MAX_PROFILE_BYTES => fs::read(&file),
            length => Err(std::io::Error::other(format!("the profile has {length} bytes"))),
        });
        let _ = fs::remove_file(&file);
        let problem = |error: String| graph.error(format!("the profile {file} cannot be read: {error}"));
        let profile = read.map_err(|error| problem(error.to_string()))?;
        Self::parse(&profile).map_err(|error| problem(error.to_string()))
    }

    fn parse(profile: &[u8]) -> serde_json::Result<Self> {
        let mut placement = Self::default();
        for event in serde_json::from_slice::<Vec<Event>>(profile)? {
            if event.name.ends_with("_kernel_time") && !event.args.provider.is_empty() {
                let operators = placement.providers.entry(event.args.provider).or_default();
                *operators.entry(event.args.op_name).or_default() += 1;
            }
        }
        Ok(placement)
    }

    /// For each provider the operators it ran, and how many of each.
    pub fn providers(&self) -> &BTreeMap<String, BTreeMap<String, usize>> {
        &self.providers
    }

    /// Why one could not say that `provider` runs the network: it ran nothing, or another ran a convolution. Small things
    /// about lengths and shapes may run elsewhere.
    pub fn problem(&self, provider: &str) -> Option<String> {
        if !self.providers.contains_key(provider) {
            return Some(format!("{provider} ran nothing; {}", self.summary()));
        }
        let elsewhere = self.providers.iter().filter(|(name, _)| *name != provider);
        let convolutions = |operators: &BTreeMap<String, usize>| operators.keys().any(|name| name.contains("Conv"));
        elsewhere
            .into_iter()
            .find(|(_, operators)| convolutions(operators))
            .map(|(other, _)| format!("convolutions ran on {other} instead of {provider}; {}", self.summary()))
    }

    /// One line, e.g. `CUDA ran 150 operators, CPU 12`.
    pub fn summary(&self) -> String {
        let count = |(name, operators): (&String, &BTreeMap<String, usize>)| {
            format!(
                "{} ran {} operators",
                name.trim_end_matches("ExecutionProvider"),
                operators.values().sum::<usize>()
            )
        };
        let parts: Vec<String> = self.providers.iter().map(count).collect();
        if parts.is_empty() { "nothing ran".into() } else { parts.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(kernels: &[(&str, &str)]) -> Placement {
        let mut events = vec![serde_json::json!({"cat": "Session", "name": "model_run", "args": {}})];
        events.extend(kernels.iter().map(|(provider, operator)| {
            let args = serde_json::json!({"provider": provider, "op_name": operator});
            serde_json::json!({"cat": "Node", "name": format!("{operator}_kernel_time"), "args": args})
        }));
        Placement::parse(serde_json::Value::from(events).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_convolution_elsewhere_is_a_problem() {
        let (cpu, cuda) = ("CPUExecutionProvider", "CUDAExecutionProvider");
        assert_eq!(profile(&[(cuda, "Conv"), (cuda, "Relu"), (cpu, "Shape")]).problem(cuda), None);
        let problem = profile(&[(cuda, "Relu"), (cpu, "FusedConv")]).problem(cuda).unwrap();
        assert!(problem.contains("convolutions ran on CPUExecutionProvider"), "{problem}");
        assert!(problem.contains("CPU ran 1 operators, CUDA ran 1 operators"), "{problem}");
        assert!(profile(&[(cpu, "Conv")]).problem(cuda).unwrap().contains("ran nothing"));
        assert!(profile(&[]).problem(cuda).unwrap().contains("nothing ran"));
        assert!(Placement::parse(b"[{").is_err());
    }
}
