//! How results are written: text, JSON Lines as `docs/protocol.md` describes them, captions, and tables of words.

mod json;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dfcnn::captions::{Captions, Layout, VTT_HEADER};
use dfcnn::transcript::{Event, Segment, Word};
use dfcnn::{Error, Result};

/// A form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The text of each segment on a line
    Text,
    /// JSON Lines: text, times and words
    Json,
    /// Captions: SubRip
    Srt,
    /// Captions: WebVTT
    Vtt,
    /// A word a line, for scoring: file, channel, start, duration, word, confidence
    Ctm,
    /// A word a line, for spreadsheets: file, start, end, word, confidence
    Tsv,
}

impl Form {
    /// How the names of files of this form end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "jsonl",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
            Self::Ctm => "ctm",
            Self::Tsv => "tsv",
        }
    }

    /// Whether it can say which of several files something is about.
    pub fn names_files(self) -> bool {
        !matches!(self, Self::Srt | Self::Vtt)
    }
}

/// How captions are laid out.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Captions (srt, vtt)")]
pub struct LayoutChoice {
    /// The most characters on a line
    #[arg(long, value_name = "N", default_value_t = Layout::default().line_chars)]
    caption_chars: usize,
    /// The most lines at once
    #[arg(long, value_name = "N", default_value_t = Layout::default().lines)]
    caption_lines: usize,
    /// The longest that a caption stays
    #[arg(long, value_name = "SECONDS", default_value_t = Layout::default().longest_s)]
    caption_longest: f64,
    /// A pause between words that begins a new caption
    #[arg(long, value_name = "SECONDS", default_value_t = Layout::default().pause_s)]
    caption_pause: f64,
}

impl LayoutChoice {
    /// What was asked for.
    pub fn layout(&self) -> Layout {
        Layout {
            line_chars: self.caption_chars,
            lines: self.caption_lines,
            longest_s: self.caption_longest,
            pause_s: self.caption_pause,
            ..Layout::default()
        }
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub form: Form,
    /// Whether lines of text follow the file's name.
    pub names: bool,
    /// Whether JSON has results that may still change, …
    pub partials: bool,
    /// … and other readings.
    pub alternatives: bool,
    pub layout: Layout,
}

/// A writer of results. Each line is flushed, so that a reader hears of it at once.
pub struct Output<W: Write> {
    out: W,
    path: PathBuf,
    format: Format,
    captions: Captions,
    /// Cues of the present file.
    cues: usize,
    /// Whether the table has its head.
    has_head: bool,
    /// Whether the present file has a line of text yet.
    has_text: bool,
}

impl<W: Write> Output<W> {
    /// `path` is for the errors.
    ///
    /// # Errors
    /// When captions cannot be laid out so.
    pub fn new(out: W, path: impl AsRef<Path>, format: Format) -> Result<Self> {
        let captions = Captions::new(format.layout)?;
        let path = path.as_ref().to_path_buf();
        Ok(Self { out, path, format, captions, cues: 0, has_head: false, has_text: false })
    }

    /// The form of the results.
    pub fn form(&self) -> Form {
        self.format.form
    }

    /// Whether partial results are written.
    pub fn has_partials(&self) -> bool {
        self.format.partials && self.format.form == Form::Json
    }

    /// Writes what comes before anything of a file.
    pub fn begin(&mut self) -> Result<()> {
        match self.format.form {
            Form::Vtt => self.write(VTT_HEADER),
            Form::Tsv if !std::mem::replace(&mut self.has_head, true) => {
                self.write("file\tstart_s\tend_s\tword\tconfidence\n")
            }
            _ => Ok(()),
        }
    }

    /// Writes what was recognised in `file`.
    pub fn event(&mut self, file: &str, event: &Event) -> Result<()> {
        let segment = match event {
            Event::Final(segment) => segment,
            Event::Partial(segment) if self.has_partials() => return self.write(&json::partial(file, segment)),
            Event::Partial(_) => return Ok(()),
        };
        match self.format.form {
            Form::Text => self.text(file, &segment.text),
            Form::Json => self.write(&json::finished(file, segment, self.format.alternatives)),
            Form::Srt | Form::Vtt => self.captions(Some(segment)),
            Form::Ctm => self.words(segment, |word| ctm(file, word)),
            Form::Tsv => self.words(segment, |word| tsv(file, word)),
        }
    }

    /// Writes that all `duration_s` seconds of `file` were heard; an empty line of text, if nothing was said in them.
    pub fn end(&mut self, file: &str, duration_s: f64) -> Result<()> {
        match self.format.form {
            Form::Text if std::mem::take(&mut self.has_text) => Ok(()),
            Form::Text => self.text(file, "").map(|()| self.has_text = false),
            Form::Json => self.write(&json::end(file, duration_s)),
            Form::Srt | Form::Vtt => self.captions(None),
            Form::Ctm | Form::Tsv => Ok(()),
        }
    }

    /// Writes that `file` failed, for readers of JSON; others read standard error.
    pub fn error(&mut self, file: &str, error: &Error) -> Result<()> {
        self.has_text = false;
        match self.format.form {
            Form::Text | Form::Ctm | Form::Tsv => Ok(()),
            Form::Json => self.write(&json::error(file, error)),
            Form::Srt | Form::Vtt => self.captions(None),
        }
    }

    fn text(&mut self, file: &str, text: &str) -> Result<()> {
        self.has_text = true;
        let name = if self.format.names { format!("{file}: ") } else { String::new() };
        self.write(&format!("{name}{text}\n"))
    }

    /// Writes the cues of the next segment, or the last of the file.
    fn captions(&mut self, segment: Option<&Segment>) -> Result<()> {
        let mut cues = Vec::new();
        match segment {
            Some(segment) => self.captions.push(segment, &mut cues),
            None => self.captions.finish(&mut cues),
        }
        for cue in cues {
            self.cues += 1;
            self.write(&if self.format.form == Form::Srt { cue.srt(self.cues) } else { cue.vtt() })?;
        }
        if segment.is_none() {
            self.cues = 0;
        }
        Ok(())
    }

    fn words(&mut self, segment: &Segment, line: impl Fn(&Word) -> String) -> Result<()> {
        self.write(&segment.words.iter().map(line).collect::<String>())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(Error::write(&self.path))
    }
}

/// A line of NIST's time-marked conversation format: waveform, channel, start, duration, word, confidence. White space
/// parts the fields, so a name has none.
fn ctm(file: &str, word: &Word) -> String {
    let stem = Path::new(file).file_stem().map_or(file.into(), |stem| stem.to_string_lossy());
    let name: String = stem.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    let [start_ms, end_ms] = [word.start_s, word.end_s].map(|seconds| (seconds * 1e3).round());
    let [start_s, duration_s] = [start_ms, end_ms - start_ms].map(|ms| ms / 1e3);
    format!("{name} 1 {start_s:.3} {duration_s:.3} {} {:.3}\n", word.text, word.confidence)
}

/// A row of the table. A tab or line break in a name would break it.
fn tsv(file: &str, word: &Word) -> String {
    let name: String = file.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let Word { text, start_s, end_s, confidence } = word;
    format!("{name}\t{start_s:.3}\t{end_s:.3}\t{text}\t{confidence:.3}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(form: Form) -> Format {
        Format { form, names: false, partials: false, alternatives: false, layout: Layout::default() }
    }

    fn segment(text: &str, start_s: f64) -> Segment {
        let mut time_s = start_s;
        let word = |text: &str| {
            time_s += 0.5;
            Word { text: text.into(), start_s: time_s - 0.46, end_s: time_s, confidence: 0.75 }
        };
        Segment::new(text.split(' ').map(word).collect()).unwrap()
    }

    fn said(text: &str) -> Event {
        Event::Final(segment(text, 0.0))
    }

    fn written(format: Format, write: impl FnOnce(&mut Output<&mut Vec<u8>>) -> Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut Output::new(&mut out, "-", format).unwrap()).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Four files: two segments, silence, one that breaks off, and silence again.
    fn files(output: &mut Output<&mut Vec<u8>>) -> Result<()> {
        output.begin()?;
        output.event("a.wav", &said("one two"))?;
        output.event("a.wav", &said("three"))?;
        output.end("a.wav", 60.0)?;
        output.begin()?;
        output.end("silence.wav", 1.0)?;
        output.begin()?;
        output.event("d/my file.wav", &said("four"))?;
        output.error("d/my file.wav", &Error::audio("d/my file.wav", "breaks off"))?;
        output.begin()?;
        output.end("silence.wav", 1.0)
    }

    #[test]
    fn every_file_that_was_heard_has_a_line_of_text() {
        assert_eq!(written(format(Form::Text), files), "one two\nthree\n\nfour\n\n");
        assert_eq!(
            written(Format { names: true, ..format(Form::Text) }, files),
            "a.wav: one two\na.wav: three\nsilence.wav: \nd/my file.wav: four\nsilence.wav: \n"
        );
    }

    #[test]
    fn json_lines_are_those_of_the_protocol() {
        let write = |output: &mut Output<&mut Vec<u8>>| {
            output.event("a.wav", &Event::Partial(Segment { stable_chars: 2, ..segment("one", 0.0) }))?;
            output.event("a.wav", &said("one"))?;
            output.end("a.wav", 1.00049)?;
            output.error("b.wav", &Error::audio("b.wav", "breaks off"))
        };
        let fields = r#""file":"a.wav","start_s":0.04,"end_s":0.5,"text":"one","words":[{"text":"one","start_s":0.04,"end_s":0.5,"confidence":0.75}]"#;
        let partial = format!("{{\"type\":\"partial\",{fields},\"stable_chars\":2}}\n");
        let rest = format!(
            "{{\"type\":\"final\",{fields}}}\n{}\n{}\n",
            r#"{"type":"end","file":"a.wav","duration_s":1.0}"#,
            r#"{"type":"error","file":"b.wav","message":"b.wav: breaks off"}"#
        );
        assert_eq!(written(format(Form::Json), write), rest);
        assert_eq!(written(Format { partials: true, ..format(Form::Json) }, write), format!("{partial}{rest}"));
    }

    #[test]
    fn captions_are_numbered_in_each_file() {
        let two = |output: &mut Output<&mut Vec<u8>>| {
            for file in ["a.wav", "b.wav"] {
                output.begin()?;
                output.event(file, &Event::Partial(segment("on", 0.0)))?;
                output.event(file, &said("one two"))?;
                output.event(file, &Event::Final(segment("three", 2.0)))?;
                output.end(file, 60.0)?;
            }
            Ok(())
        };
        let srt = "1\n00:00:00,040 --> 00:00:01,040\none two\n\n2\n00:00:02,040 --> 00:00:03,040\nthree\n\n";
        assert_eq!(written(format(Form::Srt), two), srt.repeat(2));
        let vtt = "WEBVTT\n\n00:00:00.040 --> 00:00:01.040\none two\n\n00:00:02.040 --> 00:00:03.040\nthree\n\n";
        assert_eq!(written(format(Form::Vtt), two), vtt.repeat(2));
    }

    #[test]
    fn tables_of_words() {
        assert_eq!(
            written(format(Form::Ctm), files),
            "a 1 0.040 0.460 one 0.750\na 1 0.540 0.460 two 0.750\na 1 0.040 0.460 three 0.750\n\
             my_file 1 0.040 0.460 four 0.750\n"
        );
        assert_eq!(
            written(format(Form::Tsv), files),
            "file\tstart_s\tend_s\tword\tconfidence\na.wav\t0.040\t0.500\tone\t0.750\na.wav\t0.540\t1.000\ttwo\t0.750\n\
             a.wav\t0.040\t0.500\tthree\t0.750\nd/my file.wav\t0.040\t0.500\tfour\t0.750\n"
        );
        assert!(tsv("a\tb\n", &segment("x", 0.0).words[0]).starts_with("a b \t"));
    }
}
