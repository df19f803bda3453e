//! `dfcnn listen` from the outside: files played as if heard, and a real sound system without hardware.

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use program::{Ran, command, run};

// ---- running it

fn dfcnn(arguments: &[&str]) -> Command {
    let mut command = program::dfcnn();
    command.args(arguments);
    command
}

/// The text of a recording, each segment on a line.
fn transcribed(path: &str) -> String {
    let ran = run(&["transcribe", path]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

/// A run that is stopped when it is dropped, so that no failed test leaves it behind.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// The lines of its standard output, as they come.
    fn lines(&mut self) -> Lines {
        Lines::of(self.0.stdout.take().unwrap())
    }

    /// The lines of its standard error, as they come.
    fn notes(&mut self) -> Lines {
        Lines::of(self.0.stderr.take().unwrap())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines that are waited for, but not for ever.
struct Lines(Receiver<String>);

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stream).lines();
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self(receiver)
    }

    /// The next line; nothing at the end.
    fn next(&self) -> Option<String> {
        match self.0.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing comes"),
        }
    }

    fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

fn clip(name: &str) -> String {
    program::package(&format!("audio/{name}"))
}

/// A clip of ours, then silence, as 16-bit samples at 16 kHz.
fn clip_and_silence(silence_s: f64) -> Vec<i16> {
    let mut reader = hound::WavReader::open(clip("harbour.wav")).unwrap();
    let mut samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    samples.resize(samples.len() + (silence_s * 16_000.0) as usize, 0);
    samples
}

fn write_wav(path: &Path, samples: &[i16]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
}

fn read_wav(path: &Path) -> Vec<i16> {
    hound::WavReader::open(path).unwrap().into_samples().map(Result::unwrap).collect()
}

// ---- a file played as if it were heard

#[test]
fn a_played_file_gives_what_transcribe_gives() {
    for name in ["harbour.wav", "garden.flac"] {
        let heard = run(&["listen", "--input", &clip(name), "--speed", "max"]);
        assert_eq!((heard.code, heard.stderr.as_str()), (Some(0), ""), "{name}");
        assert_eq!(heard.stdout, transcribed(&clip(name)), "{name}");
        assert!(heard.stdout.split_whitespace().count() > 4, "{name}: {}", heard.stdout);
    }
}

#[test]
fn json_has_partials_that_grow_into_the_final() {
    let ran = run(&["listen", "--input", &clip("harbour.wav"), "--speed", "4", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    let partials = types.iter().filter(|kind| **kind == "partial").count();
    assert!(partials > 5 && types.ends_with(&["final", "end"]), "{types:?}");
    assert!((lines.last().unwrap()["duration_s"].as_f64().unwrap() - 3.4).abs() < 0.2);
    let text = lines[lines.len() - 2]["text"].as_str().unwrap();
    let first = lines[0]["text"].as_str().unwrap();
    assert!(text.len() > first.len() && lines.iter().all(|line| line["type"] == "end" || line["file"].is_string()));
}

#[test]
fn a_recording_and_every_kind_of_transcript() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for extension in ["txt", "jsonl", "srt", "vtt", "ctm", "TSV"] {
        let (save, record) = (at(&format!("text.{extension}")), at("heard.wav"));
        let input = clip("harbour.wav");
        let ran = run(&["listen", "--input", &input, "--speed", "max", "--save", &save, "--record", &record]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let form = extension.to_lowercase().replace("jsonl", "json").replace("txt", "text");
        let expected = run(&["transcribe", "--format", &form, &input]);
        assert_eq!(fs::read_to_string(&save).unwrap(), expected.stdout, "{extension}");
        assert_eq!(read_wav(Path::new(&record)), clip_and_silence(0.0), "{extension}");
    }
    // What is heard at another rate is rounded as it is written, so that the recording says the same.
    let (slow, again) = (at("8k.wav"), at("again.wav"));
    let samples = clip_and_silence(0.0);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&slow, spec).unwrap();
    samples.chunks_exact(2).for_each(|pair| writer.write_sample(pair[0] / 2 + pair[1] / 2).unwrap());
    writer.finalize().unwrap();
    let heard = run(&["listen", "--input", &slow, "--speed", "max", "--record", &again]);
    assert_eq!(heard.stdout, transcribed(&again));
}

#[test]
fn who_does_not_keep_up_is_told_and_hears_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.wav");
    write_wav(&path, &clip_and_silence(1.5).repeat(10)); // fifty seconds in half a millisecond
    let path = path.display().to_string();
    let ran = run(&["listen", "--input", &path, "--speed", "100000"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("s of sound were dropped"), "{}", ran.stderr);
    let all = run(&["listen", "--input", &path, "--speed", "max"]);
    assert_eq!(all.stderr, "", "nothing is dropped when the file waits");
    assert_eq!(all.stdout, transcribed(&path));
    assert!(ran.stdout.lines().count() < all.stdout.lines().count());
}

#[test]
fn the_first_interrupt_prints_the_last_words_the_second_leaves() {
    for name in ["INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, record) = (folder.path().join("long.wav"), folder.path().join("heard.wav"));
        write_wav(&path, &clip_and_silence(600.0));
        let (path, recorded) = (path.display().to_string(), record.display().to_string());
        let mut listening = Running::start(dfcnn(&["listen", "--json", "--input", &path, "--record", &recorded]));
        let lines = listening.lines();
        assert!(lines.next().unwrap().contains("partial"));
        listening.signal(name);
        let rest = lines.rest();
        assert_eq!(listening.code(), Some(0));
        assert!(rest.iter().any(|line| line.contains("\"final\"")) && rest.last().unwrap().contains("\"end\""));
        let heard = read_wav(&record);
        assert!(heard.len() > 4_000 && clip_and_silence(600.0).starts_with(&heard), "{} samples", heard.len());
    }
}

#[test]
fn a_killed_recording_can_be_heard() {
    let folder = tempfile::tempdir().unwrap();
    let (path, record) = (folder.path().join("long.wav"), folder.path().join("heard.wav"));
    write_wav(&path, &clip_and_silence(600.0));
    let (path, recorded) = (path.display().to_string(), record.display().to_string());
    let listening = Running::start(dfcnn(&["listen", "--input", &path, "--record", &recorded]));
    let whole = || hound::WavReader::open(&record).is_ok_and(|reader| reader.len() >= 16_000);
    wait_until(Duration::from_secs(60), whole).expect("a second of sound in the file");
    drop(listening);
    let heard = read_wav(&record);
    assert!(heard.len() >= 16_000 && clip_and_silence(600.0).starts_with(&heard));
}

// ---- what cannot be

#[test]
fn clear_errors() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("noise.wav"), "no sound").unwrap();
    fs::write(at("cut.wav"), &fs::read(clip("harbour.wav")).unwrap()[..60_000]).unwrap();
    let clip = clip("harbour.wav");
    fs::copy(&clip, at("own.wav")).unwrap();
    let cases: [(&[&str], i32, &str); 10] = [
        (&["--input", &at("nothing.wav")], 1, "cannot read"),
        (&["--input", &at("noise.wav")], 1, "not a sound file"),
        (&["--input", &clip, "--speed", "0"], 1, "speed: 0"),
        (&["--input", &clip, "--speed", "-1"], 2, "unexpected argument"),
        (&["--input", &clip, "--speed", "fast"], 2, "a number or `max`"),
        (&["--input", &clip, "--save", &at("text.doc")], 2, "--save knows names that end in"),
        (&["--input", &clip, "--save", &at("no/folder/text.txt")], 1, "cannot write"),
        (&["--input", &clip, "--record", &at("no/folder/heard.wav")], 1, "cannot write"),
        (&["--input", &at("own.wav"), "--record", &at("own.wav")], 2, "to another file"),
        (&["--input", &clip, "--tui"], 2, "needs a terminal"),
    ];
    for (arguments, code, problem) in cases {
        let ran = run(&[&["listen"], arguments].concat());
        assert!(
            ran.code == Some(code) && ran.stderr.contains(problem) && ran.stdout.is_empty(),
            "{arguments:?}: {ran:?}"
        );
    }
    assert_eq!(fs::read(at("own.wav")).unwrap(), fs::read(&clip).unwrap(), "not overwritten");
    let cut = run(&["listen", "--input", &at("cut.wav"), "--speed", "max"]);
    assert!(cut.code == Some(1) && cut.stderr.contains("cut off") && cut.stdout.len() > 10, "{cut:?}");
}

#[test]
fn a_machine_without_microphone_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("asound.conf");
    fs::write(&config, "").unwrap();
    for arguments in [&["listen"][..], &["listen", "--device", "Studio Microphone"], &["devices", "--meter"]] {
        let ran: Ran = dfcnn(arguments).env("ALSA_CONFIG_PATH", &config).output().unwrap().into();
        assert_eq!(
            (ran.code, ran.stderr.lines().count(), ran.stdout.as_str()),
            (Some(1), 1, ""),
            "{arguments:?}: {ran:?}"
        );
        assert!(
            ran.stderr.starts_with("dfcnn: ") && ran.stderr.contains("there is no"),
            "{arguments:?}: {}",
            ran.stderr
        );
    }
}

// ---- a terminal

/// What a terminal of this size would get.
fn on_terminal(arguments: &[&str], folder: &Path) -> Option<String> {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: `script` (bsdutils) is not there to make a terminal");
        return None;
    }
    let arguments: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    let line = format!("stty rows 24 cols 80; '{}' {}", env!("CARGO_BIN_EXE_dfcnn"), arguments.join(" "));
    let log = folder.join("terminal");
    let ran = command("script")
        .args(["-q", "-e", "-c", &line, &log.display().to_string()])
        .env("TERM", "xterm-256color")
        .output()
        .unwrap();
    let shown = fs::read_to_string(&log).unwrap();
    assert!(ran.status.success(), "{shown}");
    Some(shown)
}

#[test]
fn a_terminal_shows_the_words_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip("harbour.wav");
    let text = transcribed(&path);
    let Some(shown) = on_terminal(&["listen", "--input", &path, "--speed", "2"], folder.path()) else { return };
    assert!(shown.contains(text.trim()) && shown.contains(" dB") && shown.contains("delay 0."), "{shown}");
    let begin: String = text.chars().take(5).collect();
    // What may still change is dim.
    let plain = shown.replace("\x1b[2m", "");
    assert!(plain.matches(&begin).count() > 3, "rewritten in place: {shown}");
}

#[test]
fn the_whole_terminal_is_given_back_with_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip("harbour.wav");
    let Some(shown) = on_terminal(&["listen", "--tui", "--input", &path, "--speed", "2"], folder.path()) else {
        return;
    };
    let (during, after) = shown.rsplit_once("\x1b[?1049l").expect("the alternate screen is left");
    assert!(during.contains('▄'), "a spectrogram");
    assert!(after.contains(transcribed(&path).trim()), "{after}");
}

// ---- a real sound system without hardware

/// PulseAudio with one microphone, which hears what is played to a sink that leads nowhere.
struct PulseAudio {
    server: Child,
    folder: tempfile::TempDir,
}

impl PulseAudio {
    fn start() -> Option<Self> {
        let missing = ["pulseaudio", "pactl", "paplay"]
            .into_iter()
            .find(|program| Command::new(program).arg("--version").output().is_err());
        if let Some(program) = missing {
            println!("skipped: {program} is not there; apt-get install pulseaudio pulseaudio-utils libasound2-plugins");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let runtime = folder.path().join("runtime");
        fs::create_dir(&runtime).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&runtime, private).unwrap();
        let script = folder.path().join("default.pa");
        let modules = "load-module module-native-protocol-unix\n\
            load-module module-null-sink sink_name=vmic rate=16000 channels=1 format=s16le\n\
            set-default-source vmic.monitor\n";
        fs::write(&script, modules).unwrap();
        fs::write(folder.path().join("asound.conf"), "pcm.!default { type pulse }\nctl.!default { type pulse }\n")
            .unwrap();
        let server = Self::spawn(folder.path());
        let started = Self { server, folder };
        wait_until(Duration::from_secs(20), || started.sources().contains("vmic.monitor")).expect("PulseAudio starts");
        Some(started)
    }

    fn spawn(folder: &Path) -> Child {
        let mut command = Command::new("pulseaudio");
        command.args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disallow-exit", "-F"]);
        command.arg(folder.join("default.pa"));
        Self::inside(&mut command, folder);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A program that meets this server and no other.
    fn inside<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
        command
            .env("XDG_RUNTIME_DIR", folder.join("runtime"))
            .env("HOME", folder)
            .env("ALSA_CONFIG_PATH", folder.join("asound.conf"))
            .env_remove("PULSE_SERVER")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
    }

    fn pactl(&self, arguments: &[&str]) -> String {
        let output = Self::inside(Command::new("pactl").args(arguments), self.folder.path()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn sources(&self) -> String {
        self.pactl(&["list", "short", "sources"])
    }

    fn dfcnn(&self, arguments: &[&str]) -> Command {
        let mut command = dfcnn(arguments);
        Self::inside(&mut command, self.folder.path());
        command
    }

    /// Until somebody records.
    fn wait_for_listener(&self) {
        let listens = || !self.pactl(&["list", "short", "source-outputs"]).trim().is_empty();
        wait_until(Duration::from_secs(30), listens).expect("dfcnn opens the microphone");
    }

    fn play(&self, path: &Path) {
        let played = Self::inside(Command::new("paplay").arg("--device=vmic").arg(path), self.folder.path()).status();
        assert!(played.unwrap().success());
    }

    fn restart(&mut self) {
        self.kill();
        self.server = Self::spawn(self.folder.path());
        wait_until(Duration::from_secs(20), || self.sources().contains("vmic.monitor")).expect("PulseAudio restarts");
    }

    fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for PulseAudio {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait_until(most: Duration, mut is_so: impl FnMut() -> bool) -> Option<()> {
    let start = Instant::now();
    while start.elapsed() < most {
        if is_so() {
            return Some(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    None
}

/// Where `part` begins in `whole`.
fn find(whole: &[i16], part: &[i16]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

#[test]
fn a_microphone_that_hears_a_clip() {
    let Some(pulse) = PulseAudio::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (played, recorded) = (folder.path().join("played.wav"), folder.path().join("heard.wav"));
    let said = clip_and_silence(0.0);
    let silence = vec![0; 16_000];
    write_wav(&played, &[&silence[..], &said, &[0; 40_000]].concat());
    let mut listening =
        Running::start(pulse.dfcnn(&["listen", "--rate", "16000", "--record", recorded.to_str().unwrap()]));
    let (lines, notes) = (listening.lines(), listening.notes());
    pulse.wait_for_listener();
    pulse.play(&played);
    listening.signal("INT");
    let heard = lines.rest().join("\n");
    assert_eq!((notes.rest(), listening.code()), (Vec::new(), Some(0)));
    let expected = transcribed(&clip("harbour.wav"));
    let same = expected.split_whitespace().filter(|word| heard.split_whitespace().any(|other| other == *word)).count();
    assert!(same >= 8, "{heard}: frames that begin elsewhere may change a letter, not the sentence {expected}");
    let recording = read_wav(&recorded);
    let loud = said.iter().position(|sample| sample.abs() > 100).unwrap();
    assert!(find(&recording, &said[loud..]).is_some(), "the recording has the clip, sample for sample");
    assert_eq!(heard, transcribed(recorded.to_str().unwrap()).trim(), "and says the same");
}

#[test]
fn a_microphone_that_goes_and_comes_back() {
    let Some(mut pulse) = PulseAudio::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let played = folder.path().join("played.wav");
    write_wav(&played, &[&[0; 16_000][..], &clip_and_silence(2.5)].concat());
    let mut listening = Running::start(pulse.dfcnn(&["listen"]));
    let (lines, notes) = (listening.lines(), listening.notes());
    pulse.wait_for_listener();
    pulse.play(&played);
    pulse.restart();
    let lost = notes.next().unwrap();
    assert!(lost.contains("the microphone is gone"), "{lost}");
    let back = notes.next().unwrap();
    assert!(back.contains("again"), "{back}");
    pulse.wait_for_listener();
    pulse.play(&played);
    listening.signal("INT");
    let heard = lines.rest();
    assert_eq!(listening.code(), Some(0));
    assert!(heard.len() == 2 && heard.iter().all(|line| line.ends_with("storm")), "{heard:?}");
}

#[test]
fn devices_and_what_they_refuse() {
    let Some(pulse) = PulseAudio::start() else { return };
    let listed: Ran = pulse.dfcnn(&["devices", "--json"]).output().unwrap().into();
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let devices: Vec<Value> = listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let default = devices.iter().find(|device| device["default"] == true).expect("a default");
    let plain: Ran = pulse.dfcnn(&["devices"]).output().unwrap().into();
    assert!(plain.stdout.contains("(default)") && plain.stdout.contains(default["id"].as_str().unwrap()), "{plain:?}");
    let refused: Ran = pulse.dfcnn(&["listen", "--rate", "12345678"]).output().unwrap().into();
    assert!(refused.code == Some(1) && refused.stderr.contains("leave --rate away"), "{refused:?}");
    let name = default["name"].as_str().unwrap();
    let almost = &name[..name.len() - 1];
    let unknown: Ran = pulse.dfcnn(&["listen", "--device", almost]).output().unwrap().into();
    assert!(unknown.code == Some(1) && unknown.stderr.contains(&format!("did you mean {name:?}")), "{unknown:?}");
    let mut meter = Running::start(pulse.dfcnn(&["devices", "--meter", "--device", name]));
    let line = meter.lines().next().unwrap();
    assert!(line.contains(name) && line.contains(" dB"), "{line}");
    meter.signal("INT");
    assert_eq!(meter.code(), Some(0));
}
