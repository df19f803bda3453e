//! What the filters love, as a page to look at: for every filter the patches of a data set that it answers to most, each
//! with its sound, what was heard then, and what of it the filter answered to (Zeiler & Fergus 2013, fig. 2), and how it
//! came to that over training (fig. 4).
//!
//! A data set is gone through twice, clip by clip: a [`Search`] finds where the filters answer most, and the [`Gallery`] that
//! it becomes takes those patches in. Neither keeps more of the data set than the page shows.

mod adpcm;
mod patches;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::activations::activations;
use super::griffin_lim::sound;
use super::imagine::{Imagined, imagine};
use super::page::blob::Blob;
use super::page::stages::{Filters, Stage, stages};
use super::page::{Template, tokens};
use super::receptive_field::fields;
use super::strongest::{Hit, Strongest};
use crate::layers::{Images, OpenNetwork};
use crate::model::Model;
use crate::network::{Architecture, Folded, Layer, Weights, fold_batch_norm};
use crate::spectrogram::Spectrogram;
use crate::{Error, Result};
use patches::{Patch, Piece, Place};

const TEMPLATE: Template = Template {
    html: include_str!("gallery.html"),
    style: include_str!("gallery.css"),
    scripts: &[
        include_str!("../page/data.js"),
        include_str!("../page/colour.js"),
        include_str!("../page/wav.js"),
        include_str!("../page/weights.js"),
        include_str!("gallery.js"),
    ],
};

/// The longest clip that is searched, in seconds: all outputs of the network for it are in memory at once.
pub const MOST_SECONDS: f64 = 60.0;

/// What is searched for and shown.
#[derive(Debug, Clone)]
pub struct Options {
    /// Paths of the layers; if there are none, the convolutions and residuals that are not inside another.
    pub layers: Vec<String>,
    /// Filters of each layer, evenly spread over those that answer at all.
    pub each: usize,
    /// Patches of each filter, every one from another clip.
    pub patches: usize,
    /// Threads that compute, at least one.
    pub threads: usize,
}

/// The network at some time of its training.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// What people call it.
    pub name: &'a str,
    /// All snapshots have the same architecture, and make spectrograms in the same way.
    pub model: &'a Model,
}

/// Finds where the filters answer most.
pub struct Search<'a> {
    model: &'a Model,
    options: Options,
    /// The network of `model` first, then the others.
    views: Vec<View>,
    clips: usize,
    samples: u64,
}

/// One network, its input, and where its filters answer most.
struct View {
    name: String,
    spectrogram: Spectrogram,
    network: OpenNetwork,
    weights: Weights,
    strongest: Strongest,
}

impl View {
    fn new(snapshot: Snapshot<'_>, most: usize, threads: usize) -> Result<Self> {
        let model = snapshot.model;
        let Folded { architecture, weights, .. } = fold_batch_norm(&model.architecture, &model.weights)?;
        Ok(Self {
            name: snapshot.name.to_owned(),
            spectrogram: Spectrogram::new(&model.spectrogram, Some(model.normalization.clone()))?,
            network: OpenNetwork::new(&architecture, &weights, threads)?,
            strongest: Strongest::new(&architecture, most),
            weights,
        })
    }

    fn architecture(&self) -> &Architecture {
        self.network.architecture()
    }

    /// The normalised spectrogram image of a clip.
    fn image(&mut self, samples: &[f32]) -> Images {
        let mut frames = Vec::new();
        self.spectrogram.reset();
        self.spectrogram.push(samples, &mut frames);
        Images::new(self.architecture().input(), vec![frames.len() / self.spectrogram.bins()], frames)
    }
}

impl<'a> Search<'a> {
    /// A search through what `model` answers, and through what it answered at `earlier` times of its training.
    ///
    /// # Errors
    /// [`Error::Setting`] when the model has no layer of a wanted path, or an earlier one is of another architecture or
    /// takes other spectrograms; or the threads cannot be started.
    pub fn new(model: &'a Model, earlier: &[Snapshot<'_>], options: Options) -> Result<Self> {
        for Snapshot { name, model: other } in earlier {
            if other.architecture != model.architecture || other.spectrogram != model.spectrogram {
                let problem = format!("{name} is another network than {}, not the same at another time", model.name);
                return Err(Error::setting("evolution", problem));
            }
        }
        let mut views = vec![View::new(Snapshot { name: &model.name, model }, options.patches, options.threads)?];
        for snapshot in earlier {
            views.push(View::new(*snapshot, 1, options.threads)?);
        }
        let all = stages(views[0].architecture().layers());
        for path in &options.layers {
            if !all.iter().any(|stage| stage.path == *path) {
                let paths: Vec<&str> = all.iter().map(|stage| stage.path.as_str()).collect();
                let problem = format!("the model has no layer {path}; it has {}", paths.join(", "));
                return Err(Error::setting("layers", problem));
            }
        }
        drop(all);
        Ok(Self { model, options, views, clips: 0, samples: 0 })
    }

    /// Looks at the next clip: mono samples in ±1 at the model's rate, at most [`MOST_SECONDS`] of them.
    pub fn look(&mut self, samples: &[f32]) {
        for view in &mut self.views {
            let image = view.image(samples);
            view.network.forward(&image);
            view.strongest.look(self.clips, &activations(&view.network));
        }
        self.clips += 1;
        self.samples += samples.len() as u64;
    }

    /// What has been found, to be shown the clips that it is in.
    ///
    /// # Errors
    /// [`Error::Setting`] when nothing was found.
    pub fn gallery(self) -> Result<Gallery<'a>> {
        let mut gallery = Gallery {
            search: self,
            layers: Vec::new(),
            wanted: BTreeMap::new(),
            pieces: Vec::new(),
            blob: Blob::default(),
        };
        gallery.hang();
        if gallery.wanted.is_empty() {
            return Err(Error::setting("filters", "no filter answers to anything in the data set; give it more sound"));
        }
        Ok(gallery)
    }
}

/// What a patch is wanted for.
struct Wanted {
    view: usize,
    layer: usize,
    filter: usize,
    hit: Hit,
}

/// Takes in the patches that were found.
pub struct Gallery<'a> {
    search: Search<'a>,
    layers: Vec<LayerLine>,
    /// By clip.
    wanted: BTreeMap<usize, Vec<Wanted>>,
    pieces: Vec<Piece>,
    blob: Blob,
}

/// A layer as the page shows it.
#[derive(Serialize)]
struct LayerLine {
    path: String,
    about: String,
    bins: usize,
    channels: usize,
    /// Seconds of sound that a unit sees, and from one unit to the next.
    field_s: f64,
    step_s: f64,
    /// Line of the summary.
    #[serde(skip)]
    line: usize,
    /// The taps of all filters, if it is a convolution.
    weights: Option<Filters>,
    filters: Vec<FilterLine>,
}

#[derive(Serialize)]
struct FilterLine {
    channel: usize,
    /// The strongest first.
    patches: Vec<Patch>,
    /// What it would answer to most, if it was imagined.
    imagined: Option<Patch>,
    /// The strongest of earlier networks, each with the network's number, where the filter answered to anything.
    earlier: Vec<(usize, Patch)>,
}

/// Everything that the page shows.
#[derive(Serialize)]
struct Scene<'a> {
    name: &'a str,
    description: Option<&'a str>,
    clips: usize,
    hours: f64,
    rate_hz: u32,
    hop_s: f64,
    window_s: f64,
    bins: usize,
    centres_hz: Vec<f64>,
    /// What the classes of the last layer are, if it is shown; the blank is empty.
    tokens: Vec<String>,
    /// How the sound is packed.
    adpcm: adpcm::Tables,
    /// The earlier networks.
    earlier: Vec<&'a str>,
    layers: &'a [LayerLine],
    pieces: &'a [Piece],
}

impl Gallery<'_> {
    /// Chooses the filters, and notes which clips they want.
    fn hang(&mut self) {
        let Search { options, views, model, .. } = &self.search;
        let architecture = views[0].architecture();
        let hop_s = model.spectrogram.clock().hops_ms(1) / 1e3;
        let chosen = |stage: &Stage<'_>| match options.layers.is_empty() {
            true => stage.depth == 0 && matches!(stage.layer, Layer::Convolution(_) | Layer::Residual(_)),
            false => options.layers.contains(&stage.path),
        };
        for stage in stages(architecture.layers()).into_iter().filter(chosen) {
            let (summary, layer) = (&architecture.summary()[stage.line], self.layers.len());
            let answers = |channel: &usize| !views[0].strongest.of(stage.line, *channel).is_empty();
            let answering: Vec<usize> = (0..summary.output.channels).filter(answers).collect();
            let count = answering.len().min(options.each);
            let channels: Vec<usize> = (0..count).map(|n| answering[n * answering.len() / count]).collect();
            for (filter, &channel) in channels.iter().enumerate() {
                for (view, found) in views.iter().enumerate() {
                    for &hit in found.strongest.of(stage.line, channel) {
                        self.wanted.entry(hit.clip).or_default().push(Wanted { view, layer, filter, hit });
                    }
                }
            }
            self.layers.push(LayerLine {
                path: stage.path.clone(),
                about: stage.about(),
                bins: summary.output.frequency,
                channels: summary.output.channels,
                field_s: hop_s * (summary.time.receptive_field() - 1) as f64
                    + model.spectrogram.clock().window_ms() / 1e3,
                step_s: hop_s * summary.time.stride as f64,
                line: stage.line,
                weights: Filters::new(&stage, &views[0].weights, &mut self.blob),
                filters: channels
                    .into_iter()
                    .map(|channel| FilterLine { channel, patches: Vec::new(), imagined: None, earlier: Vec::new() })
                    .collect(),
            });
        }
    }

    /// The clips that must be [`show`](Self::show)n, by their place in the search.
    pub fn clips(&self) -> BTreeSet<usize> {
        self.wanted.keys().copied().collect()
    }

    /// Takes in the patches of a clip with the same `samples` as in the search; `name` is for people, `said` what is said in
    /// it.
    pub fn show(&mut self, clip: usize, name: &str, said: &str, samples: &[f32]) {
        let Some(wanted) = self.wanted.remove(&clip) else { return };
        let Self { search, layers, pieces, blob, .. } = self;
        let Search { model, views, .. } = search;
        let images: Vec<Images> = views.iter_mut().map(|view| view.image(samples)).collect();
        let letters = patches::letters(model, views[0].network.forward(&images[0]));
        let architecture = views[0].architecture().clone();
        // A unit that sees nothing but padding has nothing to show.
        let seen: Vec<_> = wanted
            .into_iter()
            .filter_map(|wanted| {
                let field = fields(&architecture, layers[wanted.layer].line)[0]?;
                let frames = field.time.of(wanted.hit.unit.step, images[0].lengths[0])?;
                let bins = field.frequency.of(wanted.hit.unit.bin, model.spectrogram.bins())?;
                Some((wanted, field, frames, bins))
            })
            .collect();
        let frames: Vec<_> = seen.iter().map(|(_, _, frames, _)| frames.clone()).collect();
        let ranges = patches::pieces(&frames, images[0].lengths[0]);
        let first_piece = pieces.len();
        for range in &ranges {
            pieces.push(Piece::new([name, said], range.clone(), &images[0], samples, model.spectrogram.clock(), blob));
        }
        for (Wanted { view, layer, filter, hit }, field, frames, bins) in seen {
            let line = layers[layer].line;
            let piece = ranges.iter().position(|range| range.contains(frames.start())).unwrap_or(0);
            let place = Place { piece: (first_piece + piece, *ranges[piece].start()), frames, bins };
            let heard = patches::around(&letters, hit.unit.step * architecture.summary()[line].time.stride);
            let patch = Patch::new(&mut views[view].network, &images[view], (line, &field), hit, place, heard, blob);
            let FilterLine { patches, earlier, .. } = &mut layers[layer].filters[filter];
            if view == 0 {
                let rank = patches.partition_point(|other| other.value >= patch.value);
                patches.insert(rank, patch);
            } else {
                earlier.push((view - 1, patch));
            }
        }
    }

    /// Imagines for every filter what it would answer to most, and how that would sound. `progress` is told the share that is
    /// done.
    ///
    /// # Errors
    /// None that are known; the model's settings have been used before.
    pub fn imagine(&mut self, mut progress: impl FnMut(f64)) -> Result<()> {
        let Self { search, layers, pieces, blob, .. } = self;
        let Search { model, views, .. } = search;
        let network = &mut views[0].network;
        let (architecture, clock) = (network.architecture().clone(), model.spectrogram.clock());
        let (mut done, count) = (0, layers.iter().map(|layer| layer.filters.len()).sum::<usize>());
        for layer in layers.iter_mut() {
            let Some(field) = fields(&architecture, layer.line)[0] else { continue };
            for filter in &mut layer.filters {
                let Imagined { image, unit } = imagine(network, &layer.path, filter.channel, &field, 1);
                let letters = patches::letters(model, network.forward(&image));
                let value = activations(network)[layer.line].at(unit);
                let last = image.lengths[0] - 1;
                let samples = sound(&image.values, &model.spectrogram, &model.normalization, 1)?;
                let place = Place {
                    piece: (pieces.len(), 0),
                    frames: field.time.of(unit.step, last + 1).unwrap_or(0..=last),
                    bins: field.frequency.of(unit.bin, model.spectrogram.bins()).unwrap_or(0..=0),
                };
                pieces.push(Piece::new(["imagined", ""], 0..=last, &image, &samples, clock, blob));
                let heard = patches::around(&letters, unit.step * architecture.summary()[layer.line].time.stride);
                let hit = Hit { clip: 0, unit, value };
                filter.imagined = Some(Patch::new(network, &image, (layer.line, &field), hit, place, heard, blob));
                done += 1;
                progress(done as f64 / count as f64);
            }
        }
        Ok(())
    }

    /// The page, once all wanted clips have been shown.
    ///
    /// # Errors
    /// None that are known; JSON is written.
    pub fn page(mut self) -> Result<String> {
        for filter in self.layers.iter_mut().flat_map(|layer| &mut layer.filters) {
            filter.earlier.sort_by_key(|(network, _)| *network);
        }
        let Search { model, views, clips, samples, .. } = &self.search;
        let clock = model.spectrogram.clock();
        let scene = Scene {
            name: &model.name,
            description: model.description.as_deref(),
            clips: *clips,
            hours: clock.seconds(*samples) / 3600.0,
            rate_hz: clock.sample_rate_hz,
            hop_s: clock.hops_ms(1) / 1e3,
            window_s: clock.window_ms() / 1e3,
            bins: model.spectrogram.bins(),
            centres_hz: model.spectrogram.centres_hz().iter().map(|hz| hz.round()).collect(),
            tokens: tokens(model),
            adpcm: adpcm::TABLES,
            earlier: views[1..].iter().map(|view| view.name.as_str()).collect(),
            layers: &self.layers,
            pieces: &self.pieces,
        };
        TEMPLATE.filled(&scene, self.blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Rule;
    use crate::random::Random;
    use crate::visualize::activations::Unit;
    use crate::visualize::deconvnet::project;

    /// Noise whose colour changes from clip to clip.
    fn clip(seed: u64) -> Vec<f32> {
        let (mut random, mut smooth) = (Random::new(seed), 0.0f32);
        let samples = (0..16_000 + 2_000 * seed as usize).map(|_| {
            smooth += (0.1 * random.normal() - smooth) / (1 + seed) as f32;
            smooth
        });
        samples.collect()
    }

    fn options(layers: &[&str]) -> Options {
        Options { layers: layers.iter().map(|path| path.to_string()).collect(), each: 3, patches: 2, threads: 1 }
    }

    fn shown<'a>(model: &'a Model, earlier: &[Snapshot<'_>], options: Options) -> Gallery<'a> {
        let mut search = Search::new(model, earlier, options).unwrap();
        (0..4).for_each(|seed| search.look(&clip(seed)));
        let mut gallery = search.gallery().unwrap();
        for number in gallery.clips() {
            gallery.show(number, &format!("clip {number}"), "", &clip(number as u64));
        }
        gallery
    }

    #[test]
    fn a_patch_is_what_the_filter_saw_in_its_clip() {
        let model = Model::embedded().unwrap();
        let gallery = shown(&model, &[], options(&["c2", "t0"]));
        let mut view = View::new(Snapshot { name: "", model: &model }, 1, 1).unwrap();
        let json = serde_json::to_value((&gallery.layers, &gallery.pieces)).unwrap();
        for (layer, stride) in [(0, 4), (1, 4)] {
            let layer = &json[0][layer];
            let filters = layer["filters"].as_array().unwrap();
            assert_eq!(filters.len(), 3, "{layer}");
            let line = gallery.layers[usize::from(layer["path"] == "t0")].line;
            for filter in filters {
                let patches = filter["patches"].as_array().unwrap();
                assert_eq!(patches.len(), 2);
                let value = |n: usize| patches[n]["value"].as_f64().unwrap();
                assert!(value(0) >= value(1) && value(1) > 0.0, "{patches:?}");
                let (patch, channel) = (&patches[0], filter["channel"].as_u64().unwrap() as usize);
                let piece = &json[1][patch["piece"].as_u64().unwrap() as usize];
                let number: u64 = piece["name"].as_str().unwrap()["clip ".len()..].parse().unwrap();
                let image = view.image(&clip(number));
                view.network.forward(&image);
                let strongest = activations(&view.network)[line].strongest(channel).unwrap();
                assert!(
                    (activations(&view.network)[line].at(strongest) - value(0) as f32).abs() < 0.01 * value(0) as f32
                );
                let field = fields(view.architecture(), line)[0].unwrap();
                let frames = field.time.of(strongest.step, image.lengths[0]).unwrap();
                let first = (piece["start_s"].as_f64().unwrap() * 100.0).round() as u64
                    + patch["first_frame"].as_u64().unwrap();
                assert_eq!(
                    (first as usize, &patch["frames"]),
                    (*frames.start(), &frames.count().into()),
                    "stride {stride}"
                );
            }
        }
    }

    /// The pass over the patch alone has the switches of the pass over the whole clip.
    #[test]
    fn what_is_sent_back_is_what_the_whole_clip_sends_back() {
        let model = Model::embedded().unwrap();
        let mut view = View::new(Snapshot { name: "", model: &model }, 1, 1).unwrap();
        let image = view.image(&clip(3));
        let architecture = view.architecture().clone();
        let line = architecture.summary().iter().position(|layer| layer.path == "c4-pool").unwrap();
        let unit = Unit { step: 14, bin: 2, channel: 5 };
        view.network.forward(&image);
        let whole = project(&mut view.network, "c4-pool", unit, Rule::Deconvnet);
        let field = fields(&architecture, line)[0].unwrap();
        let (frames, bins) = (field.time.of(14, image.lengths[0]).unwrap(), field.frequency.of(2, 80).unwrap());
        let part: Vec<f32> = frames
            .clone()
            .flat_map(|frame| bins.clone().map(move |bin| (frame, bin)))
            .map(|(frame, bin)| whole[80 * frame + bin])
            .collect();
        let place = Place { piece: (0, 0), frames, bins: bins.clone() };
        let (mut blob, mut expected) = (Blob::default(), Blob::default());
        let hit = Hit { clip: 0, unit, value: 1.0 };
        Patch::new(&mut view.network, &image, (line, &field), hit, place, Default::default(), &mut blob);
        crate::visualize::page::blob::Signed::new(&part, bins.count(), &mut expected);
        assert!(part.iter().any(|&value| value != 0.0));
        assert_eq!(blob.compressed(), expected.compressed());
    }

    #[test]
    fn earlier_networks_show_their_strongest() {
        let model = Model::embedded().unwrap();
        let mut young = Model::embedded().unwrap();
        let weight = young.weights.get("c1.weight").unwrap().clone();
        let values = weight.values.iter().map(|value| -value).collect();
        young.weights.insert("c1.weight".to_owned(), crate::network::Tensor { values, ..weight });
        let gallery = shown(
            &model,
            &[Snapshot { name: "young", model: &young }, Snapshot { name: "same", model: &model }],
            options(&["c1"]),
        );
        for filter in &gallery.layers[0].filters {
            let value =
                |network: usize| filter.earlier.iter().find(|(own, _)| *own == network).map(|(_, patch)| patch.value);
            assert_eq!(value(1), Some(filter.patches[0].value));
            assert_ne!(value(0), value(1));
        }
        let page = gallery.page().unwrap();
        assert!(page.contains(r#""earlier":["young","same"]"#));
        assert!(page.len() < 2 << 20, "{} bytes", page.len());
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let model = Model::embedded().unwrap();
        let error = |result: Result<Search<'_>>| result.err().unwrap().to_string();
        let text = error(Search::new(&model, &[], options(&["c1", "nowhere"])));
        assert!(text.contains("no layer nowhere; it has c1, "), "{text}");
        let mut other = Model::embedded().unwrap();
        other.spectrogram.log_floor *= 2.0;
        let text = error(Search::new(&model, &[Snapshot { name: "old", model: &other }], options(&[])));
        assert!(text.contains("old is another network"), "{text}");
        let mut search = Search::new(&model, &[], options(&[])).unwrap();
        search.look(&[0.0; 100]);
        assert!(search.gallery().err().unwrap().to_string().contains("give it more sound"));
    }

    #[test]
    fn the_page_needs_nothing_else() {
        TEMPLATE.assert_needs_nothing_else();
    }
}
