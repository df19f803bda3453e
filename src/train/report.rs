//! A training run as a page to look at: one HTML file that needs nothing else.

use std::path::Path;

use serde::Serialize;

use super::metrics::{self, EvaluationLine, FiltersLine, Line, StepLine};
use crate::evaluate::edit_distance::{Step, align};
use crate::evaluate::error_rate::Score;
use crate::{Error, Result};

/// The page, but for what [`DATA`] stands for.
const TEMPLATE: &str = include_str!("report.html");
/// Where the page expects its [`Run`] as JSON.
const DATA: &str = "{{run}}";
/// Points of a curve; more than a screen shows are averaged.
const MOST_POINTS: usize = 2_000;

/// What the page shows.
#[derive(Debug, Serialize)]
struct Run {
    name: String,
    steps: Vec<StepLine>,
    evaluations: Vec<Evaluation>,
    filters: Vec<FiltersLine>,
    /// Lines that could not be read.
    others: usize,
}

#[derive(Debug, Serialize)]
struct Evaluation {
    step: u64,
    minutes: f64,
    set: String,
    wer: f64,
    cer: f64,
    words: u64,
    utterances: usize,
    /// The worst first.
    transcripts: Vec<Transcript>,
}

/// A transcript, word by word.
#[derive(Debug, Serialize)]
struct Transcript {
    wer: Option<f64>,
    errors: u64,
    /// What was said and what was heard; one is missing where a word was deleted or inserted.
    words: Vec<(Option<String>, Option<String>)>,
}

/// The page about the run in this folder, from its `metrics.jsonl`.
///
/// # Errors
/// When there is no `metrics.jsonl`, it cannot be read, or nothing in it is about a run.
pub fn page(run: &Path) -> Result<String> {
    let path = run.join("metrics.jsonl");
    if run.is_dir() && !path.exists() {
        return Err(Error::data(run, "has no metrics.jsonl; name the folder that was given to dfcnn train --run"));
    }
    let (lines, others) = metrics::read(&path)?;
    if lines.is_empty() {
        return Err(Error::data(path, "tells of no step and no evaluation yet"));
    }
    let name = std::path::absolute(run).map_err(Error::read(run))?;
    let name = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
    let (mut steps, mut evaluations, mut filters) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Step(line) => steps.push(line),
            Line::Evaluation(line) => evaluations.push(evaluation(line)),
            Line::Filters(line) => filters.push(line),
        }
    }
    let run = Run { name, steps: averaged(&steps, MOST_POINTS), evaluations, filters, others };
    let json = serde_json::to_string(&run).map_err(|error| Error::data(path, error.to_string()))?;
    // Nothing in the data may end the script that holds it.
    Ok(TEMPLATE.replacen(DATA, &json.replace('<', "\\u003c"), 1))
}

/// At most `most` lines: the means of equally many neighbours each, at the last one's place.
fn averaged(steps: &[StepLine], most: usize) -> Vec<StepLine> {
    let mean = |group: &[StepLine], value: fn(&StepLine) -> f64| {
        let (sum, count) = group
            .iter()
            .map(value)
            .filter(|value| value.is_finite())
            .fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        sum / f64::from(count)
    };
    let average = |group: &[StepLine]| {
        Some(StepLine {
            loss: mean(group, |line| line.loss),
            loss_per_label: mean(group, |line| line.loss_per_label),
            gradient_norm: mean(group, |line| line.gradient_norm),
            audio_seconds_per_second: mean(group, |line| line.audio_seconds_per_second),
            ..group.last()?.clone()
        })
    };
    steps.chunks(steps.len().div_ceil(most).max(1)).filter_map(average).collect()
}

/// Its transcripts become alignments, the worst first.
fn evaluation(line: EvaluationLine) -> Evaluation {
    let EvaluationLine { step, minutes, set, wer, cer, words, utterances, samples, mut worst } = line;
    worst.extend(samples.into_iter().filter(|sample| !worst.contains(sample)).collect::<Vec<_>>());
    let mut transcripts: Vec<Transcript> =
        worst.iter().map(|sample| transcript(&sample.reference, &sample.hypothesis)).collect();
    let badness = |transcript: &Transcript| transcript.wer.unwrap_or(f64::INFINITY);
    transcripts.sort_by(|a, b| badness(b).total_cmp(&badness(a)));
    Evaluation { step, minutes, set, wer, cer, words, utterances, transcripts }
}

fn transcript(reference: &str, hypothesis: &str) -> Transcript {
    let Score { words: errors, .. } = Score::of(reference, hypothesis);
    let reference: Vec<&str> = reference.split_whitespace().collect();
    let hypothesis: Vec<&str> = hypothesis.split_whitespace().collect();
    let (said, heard) = (|at: usize| Some(reference[at].to_owned()), |at: usize| Some(hypothesis[at].to_owned()));
    let words = align(&reference, &hypothesis).into_iter().map(|step| match step {
        Step::Match { reference, hypothesis } | Step::Substitution { reference, hypothesis } => {
            (said(reference), heard(hypothesis))
        }
        Step::Insertion { hypothesis } => (None, heard(hypothesis)),
        Step::Deletion { reference } => (said(reference), None),
    });
    Transcript { wer: errors.rate(), errors: errors.total(), words: words.collect() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;

    fn data(page: &str) -> Value {
        let (_, rest) = page.split_once("<script id=\"run\" type=\"application/json\">").unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn the_page_holds_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("a run");
        fs::create_dir(&run).unwrap();
        assert!(page(&run).unwrap_err().to_string().contains("has no metrics.jsonl"));
        assert!(matches!(page(&folder.path().join("none")), Err(Error::Read { .. })));
        fs::write(run.join("metrics.jsonl"), "\n").unwrap();
        assert!(page(&run).unwrap_err().to_string().contains("no step"));

        let samples = r#"[{"reference":"all right","hypothesis":"all right"},{"reference":"one two","hypothesis":"</script><b> two {{run}} x"}]"#;
        let lines = format!(
            "{{\"type\":\"step\",\"step\":10,\"minutes\":1,\"loss\":null,\"loss_per_label\":2.5}}\n\
             {{\"type\":\"evaluation\",\"step\":10,\"set\":\"dev\",\"wer\":0.5,\"samples\":{samples}}}\n{{\"type\":"
        );
        fs::write(run.join("metrics.jsonl"), lines).unwrap();
        let page = page(&run).unwrap();
        assert_eq!(page.matches("</script>").count(), TEMPLATE.matches("</script>").count());
        let data = data(&page);
        assert_eq!((&data["name"], &data["others"]), (&"a run".into(), &1.into()));
        assert_eq!((&data["steps"][0]["loss"], &data["steps"][0]["loss_per_label"]), (&Value::Null, &2.5.into()));
        let transcripts = data["evaluations"][0]["transcripts"].as_array().unwrap();
        assert_eq!((&transcripts[0]["wer"], &transcripts[1]["wer"]), (&1.5.into(), &0.0.into()));
        let words = serde_json::json!([["one", "</script><b>"], ["two", "two"], [null, "{{run}}"], [null, "x"]]);
        assert_eq!(transcripts[0]["words"], words);
    }

    /// No request leaves the page: everything is in it.
    #[test]
    fn the_page_needs_nothing_else() {
        assert_eq!(TEMPLATE.matches(DATA).count(), 1);
        for outside in ["src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest", "import("] {
            assert!(!TEMPLATE.contains(outside), "{outside}");
        }
        let addresses = TEMPLATE.matches("://").count();
        assert_eq!(addresses, TEMPLATE.matches("http://www.w3.org/2000/svg").count());
    }

    #[test]
    fn long_runs_are_averaged() {
        let line = |step| {
            let loss = if step == 3 { f64::NAN } else { step as f64 };
            StepLine { step, loss, skipped: step, ..StepLine::default() }
        };
        let steps: Vec<StepLine> = (1..=7).map(line).collect();
        let rows: Vec<_> = averaged(&steps, 3).iter().map(|line| (line.step, line.loss, line.skipped)).collect();
        assert_eq!(rows, [(3, 1.5, 3), (6, 5.0, 6), (7, 7.0, 7)]);
        assert_eq!(averaged(&steps, 7).len(), 7);
        assert!(averaged(&[], 7).is_empty());
    }
}
