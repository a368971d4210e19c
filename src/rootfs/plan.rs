//! The stack that becomes the container's root (pure).
//!
//! ```text
//! upper                the engine's own writable layer
//! mask                 hides the descriptor and .cvmfscatalog
//! thin lowers          the engine's lowers, as they are
//! layer n              with what hides its markers above it, and its whiteouts below it
//! …
//! empty                when there is no upper: overlayfs takes the longest name from it
//! ```

use crate::error::{Error, Result};

/// One entry of a stack, top first. `D` is an opened directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<D> {
    /// A lower directory of the engine's.
    Lower(D),
    /// Whiteouts that hide files which are none of the image's.
    Mask(D),
    /// A layer of the image.
    Layer(D),
    /// The whiteouts of the layer above.
    Whiteouts(D),
    /// An empty local directory.
    Empty(D),
}

impl<D> Entry<D> {
    /// The directory.
    pub fn dir(&self) -> &D {
        match self {
            Self::Lower(d)
            | Self::Mask(d)
            | Self::Layer(d)
            | Self::Whiteouts(d)
            | Self::Empty(d) => d,
        }
    }
}

impl Entry<std::os::fd::OwnedFd> {
    /// The same entry, its directory borrowed.
    pub fn clone_ref(&self) -> Entry<std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        match self {
            Self::Lower(d) => Entry::Lower(d.as_fd()),
            Self::Mask(d) => Entry::Mask(d.as_fd()),
            Self::Layer(d) => Entry::Layer(d.as_fd()),
            Self::Whiteouts(d) => Entry::Whiteouts(d.as_fd()),
            Self::Empty(d) => Entry::Empty(d.as_fd()),
        }
    }
}

/// A layer with what its markers were turned into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dressed<D> {
    /// Goes above: hides the markers themselves.
    pub above: Option<D>,
    /// The layer.
    pub layer: D,
    /// Goes below: its whiteouts.
    pub below: Option<D>,
    /// Its root is opaque: what lies beneath it is not stacked at all.
    pub bottom: bool,
}

/// The layers of one request, bottom first, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<D> {
    /// Directly beneath the engine's lower of this index (top first); beneath all without one.
    pub beneath: Option<usize>,
    /// The layers, bottom first.
    pub layers: Vec<Dressed<D>>,
}

/// Overlayfs' limit of lower directories in one mount (OVL_MAX_STACK in fs/overlayfs/params.h).
pub const MAX_LOWERS: usize = 500;

/// What two mounts take, of which the lower is one entry of the upper.
pub const MAX_ENTRIES: usize = 2 * MAX_LOWERS - 1;

/// Puts the whole stack together, top first. One `mask` above all lowers hides what lies at the
/// root of a thin image and of every layer tree.
pub fn stack<D>(lowers: Vec<D>, parts: Vec<Part<D>>, mask: D, empty: Option<D>) -> Vec<Entry<D>> {
    let mut entries = vec![Entry::Mask(mask)];
    let mut parts: Vec<Option<Part<D>>> = parts.into_iter().map(Some).collect();
    let mut place = |entries: &mut Vec<Entry<D>>, lower: Option<(usize, D)>| {
        let index = lower.as_ref().map(|(index, _)| *index);
        let here: Vec<Part<D>> = parts
            .iter_mut()
            .filter(|part| part.as_ref().is_some_and(|part| part.beneath == index))
            .filter_map(Option::take)
            .collect();
        entries.extend(lower.map(|(_, dir)| Entry::Lower(dir)));
        for layer in here
            .into_iter()
            .flat_map(|part| part.layers.into_iter().rev())
        {
            entries.extend(layer.above.map(Entry::Mask));
            entries.push(Entry::Layer(layer.layer));
            entries.extend(layer.below.map(Entry::Whiteouts));
            if layer.bottom {
                return true;
            }
        }
        false
    };
    let ended = lowers
        .into_iter()
        .enumerate()
        .any(|(index, lower)| place(&mut entries, Some((index, lower))));
    if !ended {
        place(&mut entries, None);
    }
    // Whiteouts at the very bottom have nothing to hide.
    while matches!(entries.last(), Some(Entry::Whiteouts(_))) {
        entries.pop();
    }
    entries.extend(empty.map(Entry::Empty));
    entries
}

/// Entries, top first.
pub type Stack<D> = Vec<Entry<D>>;

/// Splits a stack that is too high for one mount: what is left of it, and the part that becomes a
/// mount of its own at the bottom. Only the bottom may: the whiteouts of an inner mount do not
/// reach beneath it. So two mounts are all there can be.
pub fn split<D>(mut entries: Stack<D>) -> Result<(Stack<D>, Stack<D>)> {
    if entries.len() <= MAX_LOWERS {
        return Ok((entries, Vec::new()));
    }
    let bottom = entries.split_off(MAX_LOWERS - 1);
    if bottom.len() > MAX_LOWERS {
        return Err(Error::new(format!(
            "the image needs a stack of {} directories, and {} can be stacked (a layer is one, with whiteouts at least two)",
            entries.len() + bottom.len(),
            MAX_ENTRIES
        ))
        .hint("use its flat form: prefer = \"flat\" in cvmfs-run.toml"));
    }
    Ok((entries, bottom))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dressed(name: &'static str) -> Dressed<&'static str> {
        Dressed {
            above: None,
            layer: name,
            below: None,
            bottom: false,
        }
    }

    #[test]
    fn layers_lie_directly_beneath_the_lower_that_names_them() {
        let part = Part {
            beneath: Some(1),
            layers: vec![
                dressed("l1"),
                Dressed {
                    above: Some("a2"),
                    layer: "l2",
                    below: Some("w2"),
                    bottom: false,
                },
            ],
        };
        let stack = stack(vec!["derived", "thin", "base"], vec![part], "mask", None);
        use Entry::*;
        assert_eq!(
            stack,
            [
                Mask("mask"),
                Lower("derived"),
                Lower("thin"),
                Mask("a2"),
                Layer("l2"),
                Whiteouts("w2"),
                Layer("l1"),
                Lower("base")
            ]
        );
    }

    #[test]
    fn an_annotations_layers_lie_beneath_everything() {
        let bottom = Dressed {
            above: None,
            layer: "l1",
            below: Some("w1"),
            bottom: false,
        };
        let part = Part {
            beneath: None,
            layers: vec![bottom, dressed("l2")],
        };
        let stack = stack(vec!["a", "b"], vec![part], "mask", Some("empty"));
        use Entry::*;
        // The lowest layer's whiteouts hide nothing and are left out.
        assert_eq!(
            stack,
            [
                Mask("mask"),
                Lower("a"),
                Lower("b"),
                Layer("l2"),
                Layer("l1"),
                Empty("empty")
            ]
        );
    }

    #[test]
    fn a_stack_too_high_for_one_mount_is_split_at_the_bottom() {
        let entries: Vec<_> = (0..801).map(Entry::Layer).collect();
        let (top, bottom) = split(entries).unwrap();
        assert_eq!((top.len(), bottom.len()), (499, 302));
        assert_eq!(bottom[0], Entry::Layer(499));
        assert_eq!(split(vec![Entry::Layer(1); 500]).unwrap().1, []);
        let err = split(vec![Entry::Layer(1); 1000]).unwrap_err().to_string();
        assert!(err.contains("1000 directories"), "{err}");
    }
}
