//! The history of the full image (pure): the steps of the image that the thin one was made from
//! come back in the place of its one layer.

use serde_json::{Map, Value, json};

/// What a layer of the image becomes.
pub enum Piece {
    /// Itself.
    Own,
    /// The layers that it names.
    Base {
        /// How they are called, bottom first.
        names: Vec<String>,
        /// The history of the image that they are of, if it is known.
        history: Option<Vec<Value>>,
    },
}

/// The steps of the full image; `None` where those of the image do not fit its layers.
pub fn full(steps: &[Value], pieces: &[Piece]) -> Option<Vec<Value>> {
    if steps.iter().filter(|step| !is_empty(step)).count() != pieces.len() {
        return None;
    }
    let mut pieces = pieces.iter();
    let (mut all, mut pending): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for step in steps {
        if is_empty(step) {
            pending.push(step.clone());
            continue;
        }
        match pieces.next()? {
            Piece::Own => {
                all.append(&mut pending);
                all.push(step.clone());
            }
            Piece::Base { names, history } => {
                let known = history.as_ref().filter(|known| {
                    let layers = known.iter().filter(|step| !is_empty(step)).count();
                    layers == names.len() && bare(known) == bare(&pending)
                });
                match known {
                    Some(known) => all.extend(known.iter().cloned()),
                    None => {
                        all.append(&mut pending);
                        all.extend(names.iter().map(|name| made(step, name)));
                    }
                }
                pending.clear();
            }
        }
    }
    all.append(&mut pending);
    Some(all)
}

/// A step for a layer of which no other is known.
fn made(step: &Value, name: &str) -> Value {
    let mut own = Map::new();
    if let Some(created) = step.get("created") {
        own.insert("created".into(), created.clone());
    }
    own.insert("created_by".into(), json!("cvmfs-image flatten"));
    own.insert("comment".into(), json!(format!("layer {name}")));
    Value::Object(own)
}

fn is_empty(step: &Value) -> bool {
    step["empty_layer"] == true
}

/// Steps without what a thin image changes in them.
fn bare(steps: &[Value]) -> Vec<Value> {
    let mut steps = steps.to_vec();
    for step in steps.iter_mut().filter_map(Value::as_object_mut) {
        step.remove("empty_layer");
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(by: &str, empty: bool) -> Value {
        match empty {
            true => json!({"created_by": by, "empty_layer": true}),
            false => json!({"created_by": by}),
        }
    }

    fn base(history: Option<Vec<Value>>) -> Piece {
        Piece::Base {
            names: vec!["one".into(), "two".into()],
            history,
        }
    }

    #[test]
    fn the_true_steps_come_back_where_they_are_known() {
        let steps = [
            step("a", true),
            step("b", true),
            step("env", true),
            step("thin", false),
            step("label", true),
            step("run", false),
            step("cmd", true),
        ];
        let original = vec![step("a", false), step("b", false), step("env", true)];
        let pieces = [base(Some(original.clone())), Piece::Own];
        let expected = [&original[..], &steps[4..]].concat();
        assert_eq!(full(&steps, &pieces).unwrap(), expected);

        // Of another image, or of none: a step for each layer, so that tools can count.
        let other = vec![step("x", false), step("b", false), step("env", true)];
        for history in [None, Some(other)] {
            let all = full(&steps, &[base(history), Piece::Own]).unwrap();
            let layers = all.iter().filter(|step| !is_empty(step)).count();
            assert_eq!((all.len(), layers), (8, 3));
            assert_eq!(all[3]["comment"], "layer one");
        }
        assert_eq!(full(&steps, &[base(None)]), None);
        assert_eq!(full(&[], &[base(None)]), None);
    }
}
