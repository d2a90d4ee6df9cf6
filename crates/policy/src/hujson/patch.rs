//! RFC 6902 patches that keep comments where they belong.
//!
//! A comment belongs to a member if it stands directly above it (up to a blank line), behind it on
//! its line, or directly below it (up to a blank line). Such comments move and vanish with it.

use super::literal::{encode_string, quote};
use super::{
    Composite, CompositeKind, Extra, Member, Node, PatchError, Value, comment_len, count_newlines,
    has_comment, space_len,
};

struct Operation {
    kind: OperationKind,
    path: String,
    from: String,
    value: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OperationKind {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

pub(super) fn apply(document: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    for (index, operation) in read(patch)?.into_iter().enumerate() {
        run(document, operation)
            .map_err(|reason| PatchError(format!("hujson: patch operation {index}: {reason}")))?;
    }
    Ok(())
}

fn read(patch: &[u8]) -> Result<Vec<Operation>, PatchError> {
    let value = Value::parse(patch).map_err(|error| PatchError(error.to_string()))?;
    let Some(list) = value
        .as_composite()
        .filter(|list| list.kind == CompositeKind::Array)
    else {
        return Err(PatchError("hujson: patch must be a JSON array".to_owned()));
    };
    let elements = list.members.iter().enumerate();
    elements
        .map(|(index, element)| {
            read_operation(&element.value)
                .map_err(|reason| PatchError(format!("hujson: patch operation {index}: {reason}")))
        })
        .collect()
}

fn read_operation(value: &Value) -> Result<Operation, String> {
    let Some(object) = value
        .as_composite()
        .filter(|object| object.kind == CompositeKind::Object)
    else {
        return Err("must be a JSON object".to_owned());
    };
    let (mut kind, mut path, mut from, mut inserted) = (None, None, None, None);
    let mut seen: Vec<String> = Vec::new();
    for (index, member) in object.members.iter().enumerate() {
        let name = member.key();
        if seen.contains(&name) {
            return Err(format!("duplicate name {}", quote(&name)));
        }
        let text = || {
            let error = || format!("member {} must be a JSON string", quote(&name));
            member.value.as_string().ok_or_else(error)
        };
        match name.as_str() {
            "op" => {
                let text = text()?;
                kind = Some(match text.as_str() {
                    "add" => OperationKind::Add,
                    "remove" => OperationKind::Remove,
                    "replace" => OperationKind::Replace,
                    "move" => OperationKind::Move,
                    "copy" => OperationKind::Copy,
                    "test" => OperationKind::Test,
                    _ => return Err(format!("unknown operation {}", quote(&text))),
                });
            }
            "path" => path = Some(text()?),
            "from" => from = Some(text()?),
            "value" => {
                inserted = Some(Value {
                    before: leading_comments(object.before_at(index)).to_vec(),
                    after: Some(trailing_comments(object.before_at(index + 1)).to_vec()),
                    ..member.value.clone()
                });
            }
            _ => {}
        }
        seen.push(name);
    }
    let missing = |name: &str| format!("missing required member {}", quote(name));
    let kind = kind.ok_or_else(|| missing("op"))?;
    let path = path.ok_or_else(|| missing("path"))?;
    if from.is_none() && matches!(kind, OperationKind::Move | OperationKind::Copy) {
        return Err(missing("from"));
    }
    let needs_value = matches!(
        kind,
        OperationKind::Add | OperationKind::Replace | OperationKind::Test
    );
    if inserted.is_none() && needs_value {
        return Err(missing("value"));
    }
    Ok(Operation {
        kind,
        path,
        from: from.unwrap_or_default(),
        value: inserted.unwrap_or_default(),
    })
}

fn run(document: &mut Value, operation: Operation) -> Result<(), String> {
    let Operation {
        kind,
        path,
        from,
        value,
    } = operation;
    match kind {
        OperationKind::Add => add(document, &path, value),
        OperationKind::Test => {
            if equal(find(document, &path)?, &value) {
                Ok(())
            } else {
                Err(format!("values differ at {}", quote(&path)))
            }
        }
        OperationKind::Remove | OperationKind::Replace => {
            find(document, &path)?;
            let place = locate(document, &path)?;
            let verb = if kind == OperationKind::Remove {
                "remove"
            } else {
                "replace"
            };
            let Some((parent, index)) = place else {
                return Err(format!("cannot {verb} root value"));
            };
            if kind == OperationKind::Remove {
                remove_at(parent, index);
            } else {
                replace_at(parent, index, value);
            }
            Ok(())
        }
        OperationKind::Move | OperationKind::Copy => {
            let moves = kind == OperationKind::Move;
            if from.is_empty() || (moves && is_inside(&path, &from)) {
                let verb = if moves { "move" } else { "copy" };
                return Err(format!(
                    "cannot {verb} {} into {}",
                    quote(&from),
                    quote(&path)
                ));
            }
            find(document, &from)?;
            let Some((parent, index)) = locate(document, &from)? else {
                return Err(NOT_FOUND.to_owned());
            };
            let value = if moves {
                remove_at(parent, index)
            } else {
                copy_at(parent, index)
            };
            add(document, &path, value)
        }
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = unescape(last);
    match locate(document, path)? {
        None => *document = value,
        Some((parent, index)) => {
            if parent.kind == CompositeKind::Object && index < parent.members.len() {
                replace_at(parent, index, value);
            } else {
                insert_at(parent, index, &name, value);
            }
        }
    }
    Ok(())
}

const NOT_FOUND: &str = "value not found";

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// `inner` is `outer` or lies below it.
fn is_inside(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Index of the member that one part of a pointer names, which may lie behind the last one.
fn index_of(composite: &Composite, part: &str) -> Result<usize, String> {
    let count = composite.members.len();
    match composite.kind {
        CompositeKind::Object => {
            let name = unescape(part);
            let found = composite
                .members
                .iter()
                .position(|member| member.key() == name);
            Ok(found.unwrap_or(count))
        }
        CompositeKind::Array if part == "-" => Ok(count),
        CompositeKind::Array => {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            match part.parse::<usize>() {
                Ok(0) if part != "0" => Err(format!("invalid array index: {part}")),
                Ok(index) if digits => Ok(index.min(count)),
                _ => Err(format!("invalid array index: {}", unescape(part))),
            }
        }
    }
}

/// The value at a pointer.
fn find<'a>(document: &'a Value, pointer: &str) -> Result<&'a Value, String> {
    let mut value = document;
    let mut offset = 0;
    for part in parts(pointer)? {
        let Some(composite) = value.as_composite() else {
            return Err(not_indexable(pointer, offset));
        };
        let index = index_of(composite, part)?;
        value = composite
            .members
            .get(index)
            .map(|member| &member.value)
            .ok_or(NOT_FOUND)?;
        offset += 1 + part.len();
    }
    Ok(value)
}

/// The composite that holds the place a pointer names, and its index; `None` for the root. The
/// place itself need not exist.
fn locate<'a>(
    document: &'a mut Value,
    pointer: &str,
) -> Result<Option<(&'a mut Composite, usize)>, String> {
    let mut parts: Vec<&str> = parts(pointer)?.collect();
    let Some(last) = parts.pop() else {
        return Ok(None);
    };
    let mut value = document;
    let mut offset = 0;
    for part in parts {
        let Node::Composite(composite) = &mut value.node else {
            return Err(not_indexable(pointer, offset));
        };
        let index = index_of(composite, part)?;
        value = composite
            .members
            .get_mut(index)
            .map(|member| &mut member.value)
            .ok_or(NOT_FOUND)?;
        offset += 1 + part.len();
    }
    let Node::Composite(composite) = &mut value.node else {
        return Err(not_indexable(pointer, offset));
    };
    let index = index_of(composite, last)?;
    Ok(Some((composite, index)))
}

fn parts(pointer: &str) -> Result<impl Iterator<Item = &str>, String> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err("invalid pointer: lacks a forward slash prefix".to_owned());
    }
    Ok(pointer.split('/').skip(1))
}

fn not_indexable(pointer: &str, offset: usize) -> String {
    let parent = pointer.get(..offset).unwrap_or_default();
    format!("invalid pointer: cannot index into literal at {parent}")
}

/// Equality of JSON values. Numbers count as floats; `null` and numbers beyond a float's range
/// equal nothing, as in the official library.
fn equal(left: &Value, right: &Value) -> bool {
    let plain = |value: &Value| {
        let mut value = value.clone();
        value.minimize();
        let text = String::from_utf8_lossy(&value.pack()).into_owned();
        serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .map(|value| as_floats(&value))
    };
    match (plain(left), plain(right)) {
        (Some(left), Some(right)) => left == right && !left.is_null(),
        _ => false,
    }
}

fn as_floats(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        Json::Array(list) => list.iter().map(as_floats).collect(),
        Json::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), as_floats(value)))
            .collect(),
        other => other.clone(),
    }
}

fn copy_at(parent: &Composite, index: usize) -> Value {
    Value {
        before: leading_comments(parent.before_at(index)).to_vec(),
        after: Some(trailing_comments(parent.before_at(index + 1)).to_vec()),
        node: parent
            .members
            .get(index)
            .map(|member| member.value.node.clone())
            .unwrap_or_default(),
        ..Value::default()
    }
}

fn replace_at(parent: &mut Composite, index: usize, value: Value) {
    put_leading(parent.before_at_mut(index), &value.before);
    put_trailing(
        parent.before_at_mut(index + 1),
        value.after.as_deref().unwrap_or_default(),
    );
    if let Some(member) = parent.members.get_mut(index) {
        member.value.node = value.node;
    }
}

fn insert_at(parent: &mut Composite, index: usize, name: &str, value: Value) {
    let name = (parent.kind == CompositeKind::Object).then(|| Value {
        node: Node::Literal(encode_string(name)),
        ..Value::default()
    });
    let fresh = Member {
        name,
        value: Value {
            node: value.node,
            ..Value::default()
        },
    };
    parent
        .members
        .insert(index.min(parent.members.len()), fresh);
    let trailing = take_trailing(parent.before_at_mut(index + 1));
    put_trailing(parent.before_at_mut(index), &trailing);
    put_leading(parent.before_at_mut(index), &value.before);
    put_trailing(
        parent.before_at_mut(index + 1),
        value.after.as_deref().unwrap_or_default(),
    );
}

fn remove_at(parent: &mut Composite, index: usize) -> Value {
    let before = {
        let extra = parent.before_at_mut(index);
        extra.split_off(extra.len() - leading_comments(extra).len())
    };
    let after = take_trailing(parent.before_at_mut(index + 1));
    let kept = parent.before_at(index).clone();
    if has_comment(&kept) {
        let next = parent.before_at_mut(index + 1);
        let rest = next.split_off(space_len(next));
        *next = kept;
        next.extend(rest);
    }
    let member = parent.members.remove(index);
    Value {
        before,
        after: Some(after),
        node: member.value.node,
        ..Value::default()
    }
}

/// Puts comments directly above the member that `extra` precedes.
fn put_leading(extra: &mut Extra, comments: &[u8]) {
    if comments.is_empty() {
        return;
    }
    let start = ownership(extra).1;
    let blank = extra.get(start..).map_or(0, space_len);
    extra.truncate(start + blank);
    let comments = comments.get(space_len(comments)..).unwrap_or_default();
    if comments.is_empty() {
        return;
    }
    let last_line = extra.iter().rposition(|byte| *byte == b'\n');
    let own_line = last_line
        .and_then(|at| extra.get(at..))
        .is_some_and(|line| !has_comment(line));
    if !own_line {
        extra.push(b'\n');
    }
    extra.extend_from_slice(comments);
}

/// The comments directly above the member that `extra` precedes.
fn leading_comments(extra: &[u8]) -> &[u8] {
    let owned = extra.get(ownership(extra).1..).unwrap_or_default();
    owned.get(space_len(owned)..).unwrap_or_default()
}

/// Puts comments behind the member that `extra` follows.
fn put_trailing(extra: &mut Extra, comments: &[u8]) {
    if comments.is_empty() {
        return;
    }
    extra.drain(..previous_end(extra));
    if has_comment(comments) {
        let both = comments.ends_with(b"\n") && extra.starts_with(b"\n");
        let kept = comments.len() - usize::from(both);
        extra.splice(..0, comments.iter().take(kept).copied());
    }
}

/// The comments behind the member that `extra` follows.
fn trailing_comments(extra: &[u8]) -> &[u8] {
    extra.get(..ownership(extra).0).unwrap_or_default()
}

fn take_trailing(extra: &mut Extra) -> Extra {
    let trailing = trailing_comments(extra).to_vec();
    extra.drain(..previous_end(extra));
    trailing
}

/// Where the previous member's comments end, less their last newline, which stays.
fn previous_end(extra: &[u8]) -> usize {
    let comments = trailing_comments(extra);
    comments.len() - usize::from(comments.ends_with(b"\n"))
}

/// Whose the comments in `extra` are: those up to the first offset belong to the member before,
/// those from the second offset to the one behind.
fn ownership(extra: &[u8]) -> (usize, usize) {
    let mut dividers: Option<(usize, usize)> = None;
    let mut at = 0;
    // A line comment swallows its newline, which then counts with the white space behind it.
    let mut newlines = 0;
    while at < extra.len() {
        let rest = extra.get(at..).unwrap_or_default();
        let space = space_len(rest);
        newlines += rest.get(..space).map_or(0, count_newlines);
        if newlines >= 2 {
            dividers = Some((dividers.map_or(at, |(first, _)| first), at));
        }
        at += space;
        let rest = extra.get(at..).unwrap_or_default();
        let Some(Some(length)) = comment_len(rest) else {
            break;
        };
        newlines = usize::from(rest.starts_with(b"//"));
        at += length;
    }
    dividers.unwrap_or_else(|| {
        // Without a blank line, only a line comment on the first line belongs to the one before.
        let space = space_len(extra);
        let comment = extra.get(space..).unwrap_or_default();
        let end = space + comment_len(comment).flatten().unwrap_or_default();
        let head = extra.get(..end).unwrap_or_default();
        if count_newlines(head) == 1 && head.ends_with(b"\n") {
            (end, end)
        } else {
            (0, 0)
        }
    })
}
