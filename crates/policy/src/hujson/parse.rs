//! From outline to tree: what stands between the values goes to the values.

use super::outline::{Index, Outline, Unreadable, behind_extra};
use super::{Composite, CompositeKind, Error, Extra, Member, Node, Value};
use crate::budget::Budget;

pub(super) fn document(text: &[u8]) -> Result<Value, Error> {
    let outline = match Outline::parse(text, &Budget::unlimited()) {
        Ok(outline) => outline,
        Err(Unreadable::Syntax(error)) => return Err(error),
        Err(Unreadable::Exhausted(exhausted)) => {
            return Err(Error {
                line: 1,
                column: 1,
                reason: exhausted.to_string(),
            });
        }
    };
    let (start, end) = outline.span(0);
    let before = slice(text, 0, start);
    Ok(Value {
        after: some_extra(slice(text, end, text.len())),
        ..value(&outline, 0, before)
    })
}

fn slice(text: &[u8], from: usize, to: usize) -> Extra {
    text.get(from..to).unwrap_or_default().to_vec()
}

fn some_extra(extra: Extra) -> Option<Extra> {
    (!extra.is_empty()).then_some(extra)
}

/// A value of the outline without what stands behind it. The outline is no deeper than the parser
/// allows.
fn value(outline: &Outline<'_>, at: Index, before: Extra) -> Value {
    let (start, end) = outline.span(at);
    let node = match outline.kind(at) {
        None => Node::Literal(outline.literal(at).unwrap_or_default().to_vec()),
        Some(kind) => Node::Composite(composite(outline, at, kind)),
    };
    Value {
        before,
        start,
        node,
        end,
        after: None,
    }
}

fn composite(outline: &Outline<'_>, at: Index, kind: CompositeKind) -> Composite {
    let text = outline.text();
    let (start, end) = outline.span(at);
    let mut composite = Composite::new(kind);
    // Behind the last bracket, comma or colon.
    let mut position = start + 1;
    let mut comma_is_last = true;
    let mut children = outline.children(at);
    let mut read = |at: Index| {
        let (start, end) = outline.span(at);
        let stop = behind_extra(text, end);
        let value = Value {
            after: some_extra(slice(text, end, stop)),
            ..value(outline, at, slice(text, position, start))
        };
        position = stop + 1;
        (value, stop)
    };
    while let Some(first) = children.next() {
        let (first, mut stop) = read(first);
        let member = match kind {
            CompositeKind::Array => Member {
                name: None,
                value: first,
            },
            CompositeKind::Object => {
                let Some(inner) = children.next() else {
                    break;
                };
                let (value, behind) = read(inner);
                stop = behind;
                Member {
                    name: Some(first),
                    value,
                }
            }
        };
        composite.members.push(member);
        comma_is_last = text.get(stop) == Some(&b',');
    }
    if comma_is_last {
        composite.set_trailing_comma(true);
        composite.after = slice(text, position, end.saturating_sub(1));
    } else if let Some(last) = composite.members.last_mut() {
        composite.after = last.value.after.take().unwrap_or_default();
    }
    composite
}
