//! What the cache says of a layer: the text of a symbolic link.

use super::super::lists::{Lists, RelPath};
use super::super::tree::Plan;

/// What is known of a layer.
///
/// Its text is `<words>:<id>:<path>`: what there is (`above`, `below`, `bottom`, with commas
/// between), the digest that the trees are named by, and the directory that could not be
/// read. A layer without markers has the text `::`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Entry {
    /// There is a tree for above the layer.
    pub above: bool,
    /// There is a tree for below the layer.
    pub below: bool,
    /// Nothing may be stacked beneath the layer.
    pub bottom: bool,
    /// The name of the trees, if there is one.
    pub tree: Option<String>,
    /// The entry holds only while this directory of the layer cannot be read.
    pub unread: Option<RelPath>,
}

/// The longest text: that of a symbolic link (`PATH_MAX` with its NUL).
const MAX_TEXT: usize = 4095;

impl Entry {
    /// The entry of a layer for which `plan` is made.
    pub fn new(plan: &Plan, lists: &Lists, salt: &[u8]) -> Self {
        let has = |wanted| plan.trees().any(|(name, _)| name == wanted);
        let (above, below) = (has("above"), has("below"));
        Self {
            above,
            below,
            bottom: plan.bottom,
            tree: (above || below).then(|| plan.id(salt)),
            unread: lists.unread.clone(),
        }
    }

    /// The text of the link, unless it is too long for one.
    pub fn text(&self) -> Option<Vec<u8>> {
        let Self {
            above,
            below,
            bottom,
            tree,
            unread,
        } = self;
        let words: Vec<&str> = [(above, "above"), (below, "below"), (bottom, "bottom")]
            .into_iter()
            .filter_map(|(there, word)| there.then_some(word))
            .collect();
        let tree = tree.as_deref().unwrap_or_default();
        let mut text = format!("{}:{tree}:", words.join(",")).into_bytes();
        text.extend_from_slice(unread.as_deref().unwrap_or_default());
        (text.len() <= MAX_TEXT).then_some(text)
    }

    /// The entry of a link's text, or nothing if it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = text.splitn(3, |byte| *byte == b':');
        let words = str::from_utf8(fields.next()?).ok()?;
        let tree = str::from_utf8(fields.next()?).ok()?;
        let unread = fields.next()?;
        let mut entry = Self::default();
        for word in words.split(',').filter(|word| !word.is_empty()) {
            match word {
                "above" => entry.above = true,
                "below" => entry.below = true,
                "bottom" => entry.bottom = true,
                _ => return None,
            }
        }
        let is_id = tree.len() == 64 && tree.bytes().all(|byte| byte.is_ascii_hexdigit());
        if (entry.above || entry.below) != is_id || (!is_id && !tree.is_empty()) {
            return None;
        }
        entry.tree = is_id.then(|| tree.to_owned());
        entry.unread = (!unread.is_empty()).then(|| unread.to_vec());
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_read_back_from_its_text() {
        for bits in 0..16_u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let (above, below) = (bit(0), bit(1));
            let entry = Entry {
                above,
                below,
                bottom: bit(2),
                tree: (above || below).then(|| "0f".repeat(32)),
                unread: bit(3).then(|| b"a:b/\xff,c".to_vec()),
            };
            let text = entry.text().unwrap();
            assert_eq!(Entry::parse(&text), Some(entry));
        }
        assert_eq!(Entry::default().text().unwrap(), b"::");
    }

    #[test]
    fn a_text_that_is_no_entry_is_not_taken_for_one() {
        let id = "0f".repeat(32);
        for text in [
            String::new(),
            "none".into(),
            "above::".into(),
            format!(":{id}:"),
            format!("above:../{}:", &id[3..]),
            format!("above:{}:", &id[1..]),
            format!("sideways:{id}:"),
        ] {
            assert_eq!(Entry::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_entry_too_long_for_a_link_is_not_kept() {
        let entry = Entry {
            unread: Some(vec![b'x'; 4096]),
            ..Entry::default()
        };
        assert_eq!(entry.text(), None);
    }
}
