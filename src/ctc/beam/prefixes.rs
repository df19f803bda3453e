//! The texts of all hypotheses, their common beginnings stored once.

use super::scorer::{Context, Most, Scorer, WordEnd};
use super::tree::Tree;
use crate::tokens::Tokens;

const NONE: u32 = u32::MAX;
/// Bytes of a word from before the root that are remembered; no language model knows longer words.
const MAX_WORD_BYTES: usize = 256;

/// A text: that of its parent and one token.
#[derive(Debug, Clone, Copy)]
struct Prefix {
    token: u32,
    context: Context,
    /// What the end of its open word adds, once it was asked for.
    word_end: Option<WordEnd>,
    first_child: u32,
    next_sibling: u32,
    /// The hypothesis that has this text.
    hypothesis: u32,
}

impl Prefix {
    fn new(token: u32, context: Context) -> Self {
        Self { token, context, word_end: None, first_child: NONE, next_sibling: NONE, hypothesis: NONE }
    }
}

/// A tree of texts; the root's is settled.
pub struct Prefixes {
    tree: Tree<Prefix>,
    pieces: Vec<String>,
    scorer: Scorer,
    /// The open word of the root.
    root_word: String,
    /// Scratch: an open word and the tokens of one, last first.
    word: String,
    reversed: Vec<u32>,
}

impl Prefixes {
    pub const ROOT: u32 = Tree::<Prefix>::ROOT;

    pub fn new(tokens: &Tokens, scorer: impl FnOnce(bool) -> Scorer) -> Self {
        let pieces: Vec<String> = (0..tokens.len() as u32).map(|id| tokens.piece(id).unwrap_or_default()).collect();
        let scorer = scorer(pieces.iter().any(|piece| piece.contains(' ')));
        Self {
            tree: Tree::new(Prefix::new(NONE, scorer.start())),
            pieces,
            scorer,
            root_word: String::new(),
            word: String::new(),
            reversed: Vec::new(),
        }
    }

    /// Forgets all but the empty text.
    pub fn restart(&mut self) {
        self.tree.restart(Prefix::new(NONE, self.scorer.start()));
        self.root_word.clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn context(&self, prefix: u32) -> &Context {
        &self.tree[prefix].context
    }

    /// The most that a token can add to the worth of a text.
    pub fn most(&self, token: u32) -> Most {
        self.scorer.most(&self.pieces[token as usize])
    }

    pub fn child(&self, prefix: u32, token: u32) -> Option<u32> {
        let mut child = self.tree[prefix].first_child;
        while child != NONE && self.tree[child].token != token {
            child = self.tree[child].next_sibling;
        }
        (child != NONE).then_some(child)
    }

    /// A new child; `context` as [`Prefixes::extended`] gives it.
    pub fn add(&mut self, prefix: u32, token: u32, context: Context) -> u32 {
        let next_sibling = self.tree[prefix].first_child;
        let child = self.tree.push(prefix, Prefix { next_sibling, ..Prefix::new(token, context) });
        self.tree[prefix].first_child = child;
        child
    }

    pub fn hypothesis(&self, prefix: u32) -> Option<usize> {
        let hypothesis = self.tree[prefix].hypothesis;
        (hypothesis != NONE).then_some(hypothesis as usize)
    }

    pub fn set_hypothesis(&mut self, prefix: u32, hypothesis: Option<usize>) {
        self.tree[prefix].hypothesis = hypothesis.map_or(NONE, |hypothesis| hypothesis as u32);
    }

    /// What is known of a text with another token.
    pub fn extended(&mut self, prefix: u32, token: u32) -> Context {
        let context = self.tree[prefix].context;
        let ends = self.scorer.ends_word(&context, &self.pieces[token as usize]);
        let word_end = ends.then(|| self.word_end(prefix, Some(token)));
        let mut extended = self.scorer.extend(context, &self.pieces[token as usize], word_end);
        if extended.open && self.scorer.reads_words() {
            self.find_open_word(prefix);
            append(&mut self.word, &self.pieces[token as usize]);
            self.scorer.look_ahead(&mut extended, &self.word);
        }
        extended
    }

    /// What is known of a text that ends here.
    pub fn finished(&mut self, prefix: u32) -> Context {
        let context = self.tree[prefix].context;
        let word_end = context.open.then(|| self.word_end(prefix, None));
        self.scorer.finish(context, word_end)
    }

    /// What the end of the open word adds, before the first space in `token`.
    fn word_end(&mut self, prefix: u32, token: Option<u32>) -> WordEnd {
        let head = token.and_then(|token| self.pieces[token as usize].split(' ').next()).unwrap_or_default();
        if let (Some(end), "") = (self.tree[prefix].word_end, head) {
            return end;
        }
        let (stays, head) = (head.is_empty(), head.to_owned());
        if self.scorer.reads_words() {
            self.find_open_word(prefix);
            self.word.push_str(&head);
        }
        let end = self.scorer.word_end(&self.tree[prefix].context, &self.word);
        if stays {
            self.tree[prefix].word_end = Some(end);
        }
        end
    }

    /// Makes `word` the open word of a text.
    fn find_open_word(&mut self, prefix: u32) {
        self.word.clear();
        self.reversed.clear();
        let mut node = prefix;
        while node != Self::ROOT {
            let token = self.tree[node].token;
            self.reversed.push(token);
            if self.pieces[token as usize].contains(' ') {
                break;
            }
            node = self.tree.parent(node);
        }
        if node == Self::ROOT {
            self.word.push_str(&self.root_word);
        }
        for &token in self.reversed.iter().rev() {
            append(&mut self.word, &self.pieces[token as usize]);
        }
    }

    /// The text `steps` tokens shorter.
    pub fn ancestor(&self, prefix: u32, steps: usize) -> u32 {
        (0..steps).fold(prefix, |node, _| self.tree.parent(node))
    }

    /// The common beginning of two texts.
    pub fn common(&self, a: u32, b: u32) -> u32 {
        self.tree.common(a, b)
    }

    /// Tokens between the root and a text.
    pub fn tokens(&self, prefix: u32) -> usize {
        self.tree.path_up(prefix).count()
    }

    /// A text from the root's open word on, words parted by single spaces.
    pub fn text(&self, prefix: u32) -> String {
        let mut tokens: Vec<u32> = self.tree.path_up(prefix).map(|node| self.tree[node].token).collect();
        tokens.reverse();
        let pieces = tokens.into_iter().map(|token| self.pieces[token as usize].as_str());
        let joined: String = std::iter::once(self.root_word.as_str()).chain(pieces).collect();
        joined.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Makes `root` the root and forgets all but what leads to the `ends`; [`Prefixes::moved`] tells the new numbers.
    pub fn settle(&mut self, root: u32, ends: impl Iterator<Item = u32>) {
        self.reversed.clear();
        self.reversed.extend(self.tree.path_up(root).map(|node| self.tree[node].token));
        for &token in self.reversed.iter().rev() {
            append(&mut self.root_word, &self.pieces[token as usize]);
        }
        self.tree.retain(root, ends);
        for node in 0..self.tree.len() as u32 {
            self.tree[node].first_child = NONE;
            self.tree[node].hypothesis = NONE;
            if node != Self::ROOT {
                let parent = self.tree.parent(node);
                self.tree[node].next_sibling = self.tree[parent].first_child;
                self.tree[parent].first_child = node;
            }
        }
    }

    pub fn moved(&self, prefix: u32) -> u32 {
        self.tree.moved(prefix)
    }
}

/// Adds a token to an open word, of which only what follows its last space stays open.
fn append(word: &mut String, piece: &str) {
    match piece.rsplit_once(' ') {
        Some((_, tail)) => {
            word.clear();
            word.push_str(tail);
        }
        None if word.len() <= MAX_WORD_BYTES => word.push_str(piece),
        None => {}
    }
}
