//! The table of command lines, in the files of `lines/`.
//!
//! A group of lines is a script as `common::same` has it, with an empty line after it:
//!
//! ```text
//! # Its name
//! % image python:3.11                  the image; busybox:1.35 where nothing is said
//! % only rootful v1: reason            where the lines make sense
//! % not thin: reason                   what is known to differ with that image
//! % alike REGEX => TEXT: reason        what differs by nature in what is said
//! % @word = text                       put in place of @word, to the end of the file
//! ```

use regex::Regex;

/// The files, each a topic.
const FILES: [(&str, &str); 6] = [
    ("process", include_str!("lines/process")),
    ("life", include_str!("lines/life")),
    ("files", include_str!("lines/files")),
    ("limits", include_str!("lines/limits")),
    ("security", include_str!("lines/security")),
    ("namespaces", include_str!("lines/namespaces")),
];

/// Lines that are run one after the other, with the same names.
pub struct Group {
    /// Topic and name.
    pub name: String,
    /// The image's name.
    pub image: String,
    /// The lines.
    pub lines: Vec<String>,
    /// Words of which a place must have one of each line's, and words it must not have.
    only: Vec<Vec<String>>,
    not: Vec<String>,
    alike: Vec<(Regex, String)>,
}

impl Group {
    /// Whether the lines are for a place, which is told by words as `rootful`, `v1`, `thin`.
    pub fn is_for(&self, place: &[&str]) -> bool {
        let here = |word: &String| place.contains(&word.as_str());
        self.only.iter().all(|words| words.iter().any(here)) && !self.not.iter().any(here)
    }

    /// What was said, without what differs by nature.
    pub fn neutral(&self, text: &str) -> String {
        let replace = |text: String, (regex, by): &(Regex, String)| {
            regex.replace_all(&text, by.as_str()).into_owned()
        };
        self.alike.iter().fold(text.to_owned(), replace)
    }
}

/// All groups.
pub fn groups() -> Vec<Group> {
    FILES
        .iter()
        .flat_map(|(topic, text)| parse(topic, text))
        .collect()
}

fn parse(topic: &str, text: &str) -> Vec<Group> {
    let mut words: Vec<(&str, &str)> = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            groups.push(Group {
                name: format!("{topic}: {name}"),
                image: "busybox:1.35".to_owned(),
                lines: Vec::new(),
                only: Vec::new(),
                not: Vec::new(),
                alike: Vec::new(),
            });
        } else if let Some((word, meaning)) = line
            .strip_prefix("% @")
            .and_then(|rest| rest.split_once(" = "))
        {
            words.push((word, meaning));
        } else if let Some(rule) = line.strip_prefix("% ") {
            let group = groups.last_mut().expect("a rule is a group's");
            rule_of(group, rule);
        } else if !line.is_empty() {
            let line = words.iter().fold(line.to_owned(), |line, (word, meaning)| {
                line.replace(&format!("@{word}"), meaning)
            });
            groups.last_mut().expect("a name first").lines.push(line);
        }
    }
    groups
}

fn rule_of(group: &mut Group, rule: &str) {
    let (what, rest) = rule.split_once(' ').expect("a rule and what it says");
    let words = |text: &str| -> Vec<String> {
        let (words, reason) = text.split_once(": ").expect("a reason");
        assert!(!reason.is_empty());
        words.split(' ').map(str::to_owned).collect()
    };
    match what {
        "image" => group.image = rest.to_owned(),
        "only" => group.only.push(words(rest)),
        "not" => group.not.extend(words(rest)),
        "alike" => {
            let (regex, rest) = rest.split_once(" => ").expect("=>");
            let (by, _reason) = rest.split_once(": ").expect("a reason");
            let regex = Regex::new(&format!("(?m){regex}")).expect("a regular expression");
            group.alike.push((regex, by.to_owned()));
        }
        _ => panic!("no such rule: {rule}"),
    }
}
