//! Interpolated modified Kneser–Ney smoothing (Chen & Goodman 1998, section 4.1.6; with pruning as Heafield et al. 2013,
//! "Scalable Modified Kneser-Ney Language Model Estimation"):
//!
//! ```text
//! p(w | v₁…vₖ) = (a(v₁…vₖ w) − D(a(v₁…vₖ w))) / Σ a(v₁…vₖ ·) + γ(v₁…vₖ) p(w | v₂…vₖ)
//! ```
//!
//! where a are adjusted counts, D the discounts and γ what they leave for shorter contexts. Words alone are interpolated
//! with the uniform distribution over all words, `</s>` and `<unk>`. An n-gram that is pruned leaves all of its count to
//! γ, so that the probabilities after every context still sum to one. `<unk>` gets only a word's share of the uniform part:
//! what is not in the vocabulary is no likelier than its rarest words.
//!
//! Everything is in memory: 8 bytes a word of text and, while an order is done, some 40 a different n-gram.

use std::iter;

use super::MAX_ORDER;
pub use super::counts::Corpus;
use super::counts::Counts;
use super::ngrams::{Level, NGrams};
use super::trie::Trie;
use super::vocabulary::{START, UNKNOWN};
use crate::{Error, Result};

/// What to make of a text.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest n-grams, 1 to [`MAX_ORDER`].
    pub order: usize,
    /// For each order, n-grams that occur so often or less are left out; the last holds for all higher orders too. Words
    /// that are left out are unknown.
    pub prune: Vec<u32>,
    /// Words to keep at most, the most frequent.
    pub vocabulary: Option<usize>,
}

/// What an n-gram that occurs once, twice, or more often gives up for those that were not seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discounts {
    /// D₁, D₂ and D₃₊.
    pub values: [f64; 3],
    /// Whether the text was enough to tell them from; else they are usual values.
    pub estimated: bool,
}

impl Discounts {
    /// For texts so small or so odd that the formula fails.
    const USUAL: [f64; 3] = [0.5, 1.0, 1.5];

    /// From the numbers of n-grams that occur once, twice, three and four times (Chen & Goodman 1998, equation 26).
    fn new(counts: impl Iterator<Item = u32>) -> Self {
        let mut n = [0.0; 5];
        for count in counts.filter(|count| (1..=4).contains(count)) {
            n[count as usize] += 1.0;
        }
        let y = n[1] / (n[1] + 2.0 * n[2]);
        let values = [1, 2, 3].map(|k| k as f64 - (k + 1) as f64 * y * n[k + 1] / n[k]);
        // NaN is not within either.
        let estimated = iter::zip(values, 1..).all(|(value, k)| value > 0.0 && value <= f64::from(k));
        Self { values: if estimated { values } else { Self::USUAL }, estimated }
    }

    /// What an n-gram with this count gives up.
    fn of(&self, count: u32) -> f64 {
        match count {
            0 => 0.0,
            count => self.values[count.min(3) as usize - 1],
        }
    }
}

/// Learns a model from a text. Also returns the discounts of each order.
///
/// # Errors
/// When the options make no sense or there is no text.
pub fn estimate(corpus: Corpus, options: &Options) -> Result<(NGrams, Vec<Discounts>)> {
    let thresholds = thresholds(options)?;
    if corpus.words() == 0 {
        return Err(Error::setting("text", "there are no words in it"));
    }
    let mut counts = corpus.count(options.order, thresholds[0], options.vocabulary);
    let mut kept: Vec<Vec<bool>> = Vec::new();
    let mut discounts = Vec::new();
    let mut shorter = Vec::new();
    for order in 1..=options.order {
        discounts.push(Discounts::new(counted(&counts, order)));
        kept.push(counts.kept(order, thresholds[order - 1]));
        let (back_offs, probabilities) = counts.probabilities(order, &kept[order - 1], &discounts[order - 1], &shorter);
        if order > 1 {
            counts.ngrams.levels[order - 2].back_offs = back_offs;
        }
        counts.ngrams.levels[order - 1].log_probs = probabilities.iter().map(|&p| p.log10().min(0.0) as f32).collect();
        shorter = probabilities;
    }
    let highest = &mut counts.ngrams.levels[options.order - 1];
    highest.back_offs = vec![f32::NAN; highest.words.len()];
    // By convention; nobody asks.
    counts.ngrams.levels[0].log_probs[START as usize] = -99.0;
    Ok((only(counts.ngrams, &kept), discounts))
}

/// The pruning threshold of each order.
fn thresholds(options: &Options) -> Result<Vec<u32>> {
    let (order, prune) = (options.order, &options.prune);
    if !(1..=MAX_ORDER).contains(&order) {
        return Err(Error::setting("order", format!("{order} is not between 1 and {MAX_ORDER}")));
    }
    if prune.len() > order {
        return Err(Error::setting("prune", format!("{} thresholds for {order} orders", prune.len())));
    }
    if !prune.is_sorted() {
        let problem = "a higher order's threshold must not be lower: n-grams would lose their contexts";
        return Err(Error::setting("prune", problem));
    }
    if options.vocabulary == Some(0) {
        return Err(Error::setting("vocab", "a model needs words"));
    }
    let last = prune.last().copied().unwrap_or(0);
    Ok(prune.iter().copied().chain(iter::repeat(last)).take(order).collect())
}

/// The adjusted counts that the discounts of an order are told from.
fn counted(counts: &Counts, order: usize) -> impl Iterator<Item = u32> {
    counts.adjusted[order - 1][if order == 1 { START as usize + 1 } else { 0 }..].iter().copied()
}

impl Counts {
    /// Which n-grams stay. Of one that stays, those within stay too: they occur as often at least.
    fn kept(&self, order: usize, threshold: u32) -> Vec<bool> {
        if order == 1 {
            return vec![true; self.raw[0].len()]; // the words were chosen before
        }
        let frequent = self.raw[order - 1].iter().map(|&count| count > threshold);
        let known = self.ngrams.each(order).map(|(words, _)| !words[..order].contains(&UNKNOWN));
        iter::zip(frequent, known).map(|(frequent, known)| frequent && known).collect()
    }

    /// log10 γ of the contexts (the n-grams of the order before), NaN of those that nothing continues; and the
    /// probabilities of the n-grams of `order`, given those of the order before. Those of n-grams that are not kept mean
    /// nothing.
    fn probabilities(
        &self,
        order: usize,
        kept: &[bool],
        discounts: &Discounts,
        shorter: &[f64],
    ) -> (Vec<f32>, Vec<f64>) {
        let counts = &self.adjusted[order - 1];
        // The context of words alone is one, and it has no words.
        let contexts = if order == 1 { 1 } else { shorter.len() };
        let context = |words: &[u32]| self.ngrams.find(&words[..order - 1]).unwrap_or(0) as usize;
        // <unk> is no word that was seen, and nothing is said of <s>.
        let discounted = |node: usize| kept[node] && (order > 1 || node > START as usize);
        let ignored = |node: usize| order == 1 && node == START as usize;

        let mut totals = vec![0.0; contexts];
        let mut left = vec![0.0; contexts];
        let mut continued = vec![false; contexts];
        let found: Vec<u32> = self.ngrams.each(order).map(|(words, _)| context(&words) as u32).collect();
        for (node, &context) in found.iter().enumerate().filter(|&(node, _)| !ignored(node)) {
            let (context, count) = (context as usize, counts[node]);
            totals[context] += f64::from(count);
            left[context] += if discounted(node) { discounts.of(count) } else { f64::from(count) };
            continued[context] |= kept[node];
        }
        let gamma = |context: usize| left[context] / totals[context];
        let uniform = 1.0 / (self.ngrams.levels[0].words.len() - 1) as f64; // all but <s>
        let probabilities = self.ngrams.each(order).zip(&found).map(|((_, path), &context)| {
            let node = path[order - 1] as usize;
            let shorter = if order == 1 { uniform } else { shorter[path[order - 2] as usize] };
            let count = counts[node];
            let own = if discounted(node) { f64::from(count) - discounts.of(count) } else { 0.0 };
            own / totals[context as usize] + gamma(context as usize) * shorter
        });
        let back_offs = |context: usize| if continued[context] { gamma(context).log10() as f32 } else { f32::NAN };
        ((0..contexts).map(back_offs).collect(), probabilities.collect())
    }
}

/// The model with only the n-grams that are kept.
fn only(model: NGrams, kept: &[Vec<bool>]) -> NGrams {
    let levels = model.levels.iter().enumerate().map(|(depth, level)| {
        let nodes = || (0..level.words.len()).filter(|&node| kept[depth][node]);
        let mut children = Vec::new();
        if let Some(longer) = kept.get(depth + 1) {
            let mut count = 0;
            for node in nodes() {
                children.push(count);
                let range = level.children[node] as usize..level.children[node + 1] as usize;
                count += longer[range].iter().filter(|&&kept| kept).count() as u32;
            }
            children.push(count);
        }
        Level {
            words: nodes().map(|node| level.words[node]).collect(),
            children,
            log_probs: nodes().map(|node| level.log_probs[node]).collect(),
            back_offs: nodes().map(|node| level.back_offs[node]).collect(),
        }
    });
    NGrams { levels: levels.collect(), vocabulary: model.vocabulary }
}
