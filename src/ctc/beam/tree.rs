//! A growing tree whose paths share their beginnings.

use std::ops::{Index, IndexMut};

/// Nodes, each after its parent; the first is the root.
#[derive(Debug, Clone)]
pub struct Tree<T> {
    parents: Vec<u32>,
    items: Vec<T>,
    /// Where [`Tree::retain`] moved each node.
    moved: Vec<u32>,
}

impl<T: Copy> Tree<T> {
    pub const ROOT: u32 = 0;
    const GONE: u32 = u32::MAX;

    pub fn new(root: T) -> Self {
        Self { parents: vec![Self::ROOT], items: vec![root], moved: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Forgets all but a new root.
    pub fn restart(&mut self, root: T) {
        self.parents.truncate(1);
        self.items.clear();
        self.items.push(root);
    }

    pub fn push(&mut self, parent: u32, item: T) -> u32 {
        self.parents.push(parent);
        self.items.push(item);
        self.items.len() as u32 - 1
    }

    pub fn parent(&self, node: u32) -> u32 {
        self.parents[node as usize]
    }

    /// The nodes from `node` up to, but without, the root.
    pub fn path_up(&self, node: u32) -> impl Iterator<Item = u32> {
        let up = std::iter::successors(Some(node), |&node| Some(self.parent(node)));
        up.take_while(|&node| node != Self::ROOT)
    }

    /// The lowest node above both, or one of them if it is above the other.
    pub fn common(&self, mut a: u32, mut b: u32) -> u32 {
        while a != b {
            if a > b {
                a = self.parent(a);
            } else {
                b = self.parent(b);
            }
        }
        a
    }

    /// Keeps only `root`, from now on the root, and what lies between it and its descendants `ends`.
    /// Nodes keep their order; [`Tree::moved`] tells their new numbers.
    pub fn retain(&mut self, root: u32, ends: impl Iterator<Item = u32>) {
        self.moved.clear();
        self.moved.resize(self.len(), Self::GONE);
        self.moved[root as usize] = Self::ROOT;
        for mut node in ends {
            while self.moved[node as usize] == Self::GONE {
                self.moved[node as usize] = Self::ROOT;
                node = self.parent(node);
            }
        }
        let mut kept = 0;
        for old in root as usize..self.len() {
            if self.moved[old] != Self::GONE {
                self.parents[kept] = if kept == 0 { Self::ROOT } else { self.moved[self.parents[old] as usize] };
                self.items[kept] = self.items[old];
                self.moved[old] = kept as u32;
                kept += 1;
            }
        }
        self.parents.truncate(kept);
        self.items.truncate(kept);
    }

    /// The number that the last [`Tree::retain`] gave to a node it kept.
    pub fn moved(&self, node: u32) -> u32 {
        self.moved[node as usize]
    }
}

impl<T> Index<u32> for Tree<T> {
    type Output = T;

    fn index(&self, node: u32) -> &T {
        &self.items[node as usize]
    }
}

impl<T> IndexMut<u32> for Tree<T> {
    fn index_mut(&mut self, node: u32) -> &mut T {
        &mut self.items[node as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_keeps_its_shape() {
        let mut tree = Tree::new('.');
        let h = tree.push(0, 'h');
        let gone = tree.push(0, 'j');
        let e = tree.push(h, 'e');
        let dead = tree.push(h, 'a');
        let l = tree.push(e, 'l');
        let y = tree.push(e, 'y');
        assert_eq!([tree.common(l, y), tree.common(l, e), tree.common(dead, y), tree.common(gone, l)], [e, e, h, 0]);
        tree.retain(h, [l, y].into_iter());
        let [l, y] = [l, y].map(|node| tree.moved(node));
        let word = |node| tree.path_up(node).map(|node| tree[node]).collect::<String>();
        assert_eq!((tree.len(), word(l), word(y), tree[0]), (4, "le".into(), "ye".into(), 'h'));
    }
}
