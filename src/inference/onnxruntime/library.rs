//! ONNX Runtime's library: where it may be, and loading it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs};

use ort::environment::Environment;
use ort::ep::ExecutionProvider;

use super::Device;
use crate::{Error, Result};

/// The library's name; PyPI's packages put the version behind it and no plain name beside.
const LIBRARY: &str = if cfg!(windows) {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.*dylib"
} else {
    "libonnxruntime.so*"
};
/// What lies beside it if it can use an NVIDIA GPU.
const CUDA_PROVIDER: &str =
    if cfg!(windows) { "onnxruntime_providers_cuda.dll" } else { "libonnxruntime_providers_cuda.so" };
/// What that needs, in the order of loading. PyPI's packages for CUDA put each library in a folder that no loader looks
/// into.
const CUDA_LIBRARIES: [&str; 9] =
    ["cudart", "cublasLt", "cublas", "nvJitLink", "nvrtc", "curand", "cufft", "cudnn", "cudnn_*"];
/// Where Python keeps packages, below an environment's folder.
const PACKAGES: &[&str] =
    if cfg!(windows) { &["Lib/site-packages"] } else { &["lib/python3*/site-packages", "lib/python3*/dist-packages"] };
const SYSTEM_FOLDERS: [&str; 5] =
    ["/usr/local/lib", "/usr/lib64", "/usr/lib", "/usr/lib/*-linux-gnu", "/opt/homebrew/lib"];
/// How such a file begins.
const ELF64_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
const INSTALL: &str = "install it with `pip install onnxruntime` (for an NVIDIA GPU `pip install \
    'onnxruntime-gpu[cuda,cudnn]'`) and say where with --ort-lib or DFCNN_ORT_LIB";

/// ONNX Runtime, loaded.
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
    version: String,
}

/// ONNX Runtime allows one environment in a process, and what is loaded stays.
static LOADED: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);

impl Runtime {
    /// Loads the library `wanted`, a file or the folder it is in; if nothing is said, the one that the variable
    /// `ORT_DYLIB_PATH` names, or else the first that loads in the active Python environment, beside the program, on the
    /// loader's path, or in the system's folders. For CUDA only those are taken that bring CUDA along.
    ///
    /// # Errors
    /// [`Error::Setting`] tells what was tried and why each failed.
    pub fn load(wanted: Option<&Path>, device: Device) -> Result<Arc<Self>> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let fail = |problem: String| Err(Error::setting("ONNX Runtime", problem));
        let places = places(wanted, |name| env::var_os(name).filter(|value| !value.is_empty()));
        let mut tried = Vec::new();
        for Place { origin, patterns } in &places {
            let libraries: Vec<PathBuf> = patterns.iter().flat_map(|pattern| files(pattern)).collect();
            if libraries.is_empty() {
                tried.push(format!("{origin}: none there"));
            }
            for path in libraries {
                if device == Device::Cuda && wanted.is_none() && !brings_cuda(&path) {
                    tried.push(format!(
                        "{}: has no {CUDA_PROVIDER} beside it, so it knows the CPU only",
                        path.display()
                    ));
                    continue;
                }
                if let Some(runtime) = &*loaded {
                    if same(&runtime.path, &path) {
                        return Ok(Arc::clone(runtime));
                    }
                    // Nobody asked for this one, so the one that is there will do.
                    if wanted.is_none() && (device == Device::Cpu || brings_cuda(&runtime.path)) {
                        return Ok(Arc::clone(runtime));
                    }
                    let there = runtime.path.display();
                    return fail(format!("{} cannot be loaded: this process runs {there} already", path.display()));
                }
                match Self::load_file(&path) {
                    Ok(runtime) => {
                        let runtime = Arc::new(runtime);
                        *loaded = Some(Arc::clone(&runtime));
                        return Ok(runtime);
                    }
                    Err(problem) => tried.push(format!("{}: {problem}", path.display())),
                }
            }
        }
        let what = if device == Device::Cuda { "no library with CUDA" } else { "no library" };
        fail(format!("{what} could be loaded; {INSTALL}. Looked for {LIBRARY}: {}", tried.join("; ")))
    }

    fn load_file(path: &Path) -> Result<Self, String> {
        // A relative path would be looked for beside the program.
        let path = fs::canonicalize(path).map_err(|error| error.to_string())?;
        whole(&path)?;
        let builder = ort::init_from(&path).map_err(|error| error.to_string())?;
        preload_cuda(&path);
        let environment = builder.with_telemetry(false).build().map_err(super::text)?;
        let version = ort::util::probe(&path).map_or_else(|| "1".to_owned(), |minor| format!("1.{minor}"));
        Ok(Self { environment, path, version })
    }

    /// What sessions of other graphs are made in: there is one in a process.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, e.g. `1.32`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it says about how it was built.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// The devices it was built for. Whether one is there is another question.
    pub fn devices(&self) -> Vec<Device> {
        let cuda = ort::ep::CUDA::is_available().unwrap_or(false);
        if cuda { vec![Device::Cpu, Device::Cuda] } else { vec![Device::Cpu] }
    }
}

/// Where a library may be.
struct Place {
    /// Which place this is, for people.
    origin: String,
    /// Patterns for its path.
    patterns: Vec<String>,
}

/// All places, the most explicit first; `variable` reads the environment.
fn places(wanted: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Vec<Place> {
    let place = |origin: &str, path: &Path, below: &[&str]| {
        let (shown, escaped) = (path.display(), glob::Pattern::escape(&path.to_string_lossy()));
        let patterns = match below {
            [] if path.is_dir() => vec![join(&escaped, LIBRARY)],
            [] => vec![escaped],
            below => below.iter().map(|below| join(&join(&escaped, below), LIBRARY)).collect(),
        };
        Place { origin: format!("{origin} {shown}"), patterns }
    };
    if let Some(wanted) = wanted {
        return vec![place("as asked for:", wanted, &[])];
    }
    if let Some(path) = variable("ORT_DYLIB_PATH") {
        return vec![place("ORT_DYLIB_PATH:", Path::new(&path), &[])];
    }
    let packages: Vec<String> = PACKAGES.iter().map(|packages| join(packages, "onnxruntime/capi")).collect();
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let mut places = Vec::new();
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        places.extend(variable(name).map(|folder| place("the packages of", Path::new(&folder), &packages)));
    }
    let home = variable("HOME").map(|home| Path::new(&home).join(".local"));
    for folder in home.into_iter().chain(["/usr/local", "/usr"].map(PathBuf::from)) {
        places.push(place("the packages of", &folder, &packages));
    }
    let program = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_path_buf()));
    let loader = if cfg!(windows) { "PATH" } else { "LD_LIBRARY_PATH" };
    let folders = variable(loader).map(|folders| env::split_paths(&folders).collect::<Vec<_>>()).unwrap_or_default();
    let folders = program.into_iter().chain(folders).filter(|folder| folder.is_dir());
    places.extend(folders.map(|folder| place("the folder", &folder, &[])));
    let patterns = SYSTEM_FOLDERS.iter().map(|folder| join(folder, LIBRARY)).collect();
    places.push(Place { origin: "the system's libraries".into(), patterns });
    places
}

fn join(folder: &str, rest: &str) -> String {
    format!("{}/{rest}", folder.trim_end_matches('/'))
}

/// The files of a pattern, the newest version first.
fn files(pattern: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        glob::glob(pattern).into_iter().flatten().flatten().filter(|path| path.is_file()).collect();
    let numbers = |path: &PathBuf| -> Vec<u64> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    files.sort_by_key(|path| std::cmp::Reverse(numbers(path)));
    files
}

/// Whether an ELF file is as long as its program headers say. The loader maps what is missing without a word, and touching
/// that kills the process.
fn whole(path: &Path) -> Result<(), String> {
    let read = || -> std::io::Result<Option<u64>> {
        let mut file = File::open(path)?;
        let mut header = [0; 64];
        if file.read_exact(&mut header).is_err() || !header.starts_with(ELF64_LITTLE_ENDIAN) {
            return Ok(None); // the loader says what it thinks of it
        }
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        let (start, size, count) = (number(&header[32..40]), number(&header[54..56]), number(&header[56..58]));
        let mut end = start.saturating_add(size * count);
        file.seek(SeekFrom::Start(start))?;
        let mut table = Vec::new();
        file.take(size * count).read_to_end(&mut table)?;
        for segment in table.chunks_exact((size as usize).max(40)) {
            end = end.max(number(&segment[8..16]).saturating_add(number(&segment[32..40])));
        }
        Ok(Some(end))
    };
    let (end, length) = (read().map_err(|error| error.to_string())?, fs::metadata(path).map(|file| file.len()));
    match (end, length) {
        (Some(end), Ok(length)) if length < end => Err(format!("is cut off: {length} bytes of at least {end}")),
        _ => Ok(()),
    }
}

fn same(a: &Path, b: &Path) -> bool {
    fs::canonicalize(b).is_ok_and(|b| a == b)
}

fn brings_cuda(library: &Path) -> bool {
    library.with_file_name(CUDA_PROVIDER).exists()
}

/// Loads what CUDA needs from the packages beside ONNX Runtime's. What is not there the loader looks for itself, and
/// ONNX Runtime then says what is missing.
fn preload_cuda(library: &Path) {
    let Some(packages) = library.ancestors().nth(3).filter(|_| brings_cuda(library)) else { return };
    let folder = join(&glob::Pattern::escape(&packages.to_string_lossy()), "nvidia/*");
    for name in CUDA_LIBRARIES {
        let patterns = match cfg!(windows) {
            true => [join(&folder, &format!("bin/{name}64_*.dll")), join(&folder, &format!("bin/*/{name}64_*.dll"))],
            false => [join(&folder, &format!("lib/lib{name}.so.*")), join(&folder, &format!("lib/*/lib{name}.so.*"))],
        };
        for file in patterns.iter().flat_map(|pattern| files(pattern)) {
            let _ = ort::util::preload_dylib(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "no library").unwrap();
    }

    #[test]
    fn what_was_asked_for_is_the_only_place() {
        let variable = |name: &str| (name == "ORT_DYLIB_PATH").then(|| "/else/where.so".into());
        let patterns =
            |wanted| places(wanted, variable).into_iter().flat_map(|place| place.patterns).collect::<Vec<_>>();
        assert_eq!(patterns(Some(Path::new("/a/[b].so"))), ["/a/[[]b[]].so"]);
        assert_eq!(patterns(None), ["/else/where.so"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_newest_in_an_environment_is_found_and_no_provider() {
        let folder = tempfile::tempdir().unwrap();
        let capi = folder.path().join("[venv]/lib/python3.11/site-packages/onnxruntime/capi");
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so"] {
            touch(&capi.join(name));
        }
        let venv = folder.path().join("[venv]");
        let places = places(None, |name| (name == "VIRTUAL_ENV").then(|| venv.clone().into()));
        let found: Vec<PathBuf> = places[0].patterns.iter().flat_map(|pattern| files(pattern)).collect();
        assert_eq!(found, [capi.join("libonnxruntime.so.1.32.0"), capi.join("libonnxruntime.so.1.9.0")]);
        assert!(!brings_cuda(&found[0]));
        touch(&capi.join(CUDA_PROVIDER));
        assert!(brings_cuda(&found[0]));
    }

    #[test]
    fn what_is_no_library_is_an_error_that_tells_what_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so.1.99.0");
        let problem = |path: &Path| Runtime::load(Some(path), Device::Cpu).err().unwrap().to_string();
        assert!(problem(&file).contains(": none there") && problem(&file).contains("pip install"));
        touch(&file);
        assert!(problem(&file).contains(&file.display().to_string()), "{}", problem(&file));
        assert!(problem(folder.path()).contains("1.99.0: "), "{}", problem(folder.path()));
    }
}
