//! The canonical layout.
//!
//! Three passes over the tree: decide which composites are expanded (a member per line), rewrite
//! all white space, align the values of neighbouring members. The measure of each rule is the
//! official library's output, which clients hash and compare (see `docs/policy/hujson.md`).

use super::literal::{decode_string, encode_string};
use super::{
    Composite, CompositeKind, Node, Value, comment_len, count_newlines, has_comment, has_newline,
    space_len,
};

/// Lines longer than this, in bytes and without indentation, make their composite expand.
const WIDTH: usize = 80;

pub(super) fn document(value: &mut Value) {
    rewrite(&mut value.before, 0, Rules::default());
    value.before.drain(..space_len(&value.before));
    let standard = value.is_standard();
    normalize(value);
    decide_layout(value);
    layout(value, 0, standard);
    align(value);
    let after = value.after.get_or_insert_default();
    rewrite(after, 0, Rules::default());
    let kept = String::from_utf8_lossy(after).trim_end().len();
    after.truncate(kept);
    after.push(b'\n');
}

/// Strings in their shortest form; no white space inside empty composites, nor around colons and
/// before commas, unless there are comments in it.
fn normalize(value: &mut Value) {
    match &mut value.node {
        Node::Literal(text) => {
            if text.first() == Some(&b'"') && text.contains(&b'\\') {
                *text = encode_string(&decode_string(text));
            }
        }
        Node::Composite(composite) if composite.members.is_empty() => {
            if !has_comment(&composite.after) {
                composite.after.clear();
            }
        }
        Node::Composite(composite) => {
            for inner in composite.values_mut() {
                if !inner.after.as_deref().is_some_and(has_comment) {
                    inner.after = None;
                }
                normalize(inner);
            }
        }
    }
}

/// Lengths of the lines that a piece of text takes.
#[derive(Clone, Copy)]
struct Lines {
    first: usize,
    last: usize,
    /// More than one line. Otherwise `first` and `last` are the same.
    many: bool,
}

impl Lines {
    const fn one(length: usize) -> Self {
        Self {
            first: length,
            last: length,
            many: false,
        }
    }
}

/// Adds up the lines of consecutive pieces.
#[derive(Default)]
struct LineCounter {
    finished: Vec<usize>,
    current: usize,
}

impl LineCounter {
    fn add(&mut self, lines: Lines) {
        self.current += lines.first;
        if lines.many {
            self.finished.push(self.current);
            self.current = lines.last;
        }
    }
}

/// Sets `expand` on every composite that has to be, and measures the value.
fn decide_layout(value: &mut Value) -> Lines {
    let composite = match &mut value.node {
        Node::Literal(text) => return Lines::one(text.len()),
        Node::Composite(composite) => composite,
    };
    let mut expand = has_newline(&composite.after);
    let mut counter = LineCounter {
        finished: Vec::new(),
        current: 1,
    };
    for member in &mut composite.members {
        expand |= has_newline(&member.first().before);
        if let Some(name) = &mut member.name {
            measure(name, &mut counter);
            counter.current += ": ".len();
        }
        measure(&mut member.value, &mut counter);
        counter.current += ", ".len();
    }
    counter.current += 1;
    if let Some(last) = composite.members.last() {
        expand |= last.value.after.as_deref().is_some_and(has_newline);
    }
    let mut lengths = counter.finished;
    lengths.push(counter.current);
    expand |= lengths.iter().any(|length| *length > WIDTH);
    composite.expand = expand;
    if expand {
        // Outside, an expanded composite is its two brackets.
        return Lines {
            first: 1 + extra_lines(composite.before_at(0)).first,
            last: 1,
            many: true,
        };
    }
    let first = lengths.first().copied().unwrap_or_default();
    Lines {
        first,
        last: lengths.last().copied().unwrap_or(first),
        many: lengths.len() > 1,
    }
}

fn measure(value: &mut Value, counter: &mut LineCounter) {
    counter.add(extra_lines(&value.before));
    counter.add(decide_layout(value));
    counter.add(extra_lines(value.after.as_deref().unwrap_or_default()));
}

fn extra_lines(extra: &[u8]) -> Lines {
    let first_newline = extra.iter().position(|byte| *byte == b'\n');
    let last_newline = extra.iter().rposition(|byte| *byte == b'\n');
    match (first_newline, last_newline) {
        (Some(first), Some(last)) => Lines {
            first: comments_width(extra.get(..first).unwrap_or_default()),
            last: comments_width(extra.get(last + 1..).unwrap_or_default()),
            many: true,
        },
        _ => Lines::one(comments_width(extra)),
    }
}

/// Bytes that the comments on one line take, a space in front of each and one behind the last.
fn comments_width(line: &[u8]) -> usize {
    let mut rest = line;
    let mut width = 0;
    loop {
        rest = rest.get(space_len(rest)..).unwrap_or_default();
        match comment_len(rest) {
            // A line comment, or a block that goes on behind the line's end.
            Some(None) => return width + 1 + rest.len(),
            Some(Some(_)) if rest.starts_with(b"//") => return width + 1 + rest.len(),
            Some(Some(length)) => {
                width += 1 + length;
                rest = rest.get(length..).unwrap_or_default();
            }
            None if width > 0 => return width + 1,
            None => return 0,
        }
    }
}

/// What [`rewrite`] has to care for, by the place of the extra.
#[derive(Clone, Copy, Default)]
struct Rules {
    newline_first: bool,
    newline_last: bool,
    no_blank_first: bool,
    no_blank_last: bool,
    /// The last line belongs to the closing bracket, one level further out.
    outdent_last: bool,
    space_if_empty: bool,
}

fn layout(value: &mut Value, depth: usize, standard: bool) {
    let Node::Composite(composite) = &mut value.node else {
        return;
    };
    let expand = composite.expand;
    let inside = Rules {
        no_blank_first: true,
        no_blank_last: true,
        ..Rules::default()
    };
    for (index, member) in composite.members.iter_mut().enumerate() {
        let before = Rules {
            newline_first: expand,
            no_blank_first: index == 0,
            space_if_empty: index != 0,
            ..Rules::default()
        };
        rewrite(&mut member.first_mut().before, depth + 1, before);
        let mut inner_depth = depth + usize::from(expand);
        if let Some(name) = &mut member.name {
            rewrite_option(&mut name.after, depth + 2, inside);
            let behind_colon = Rules {
                space_if_empty: true,
                ..inside
            };
            rewrite(&mut member.value.before, depth + 2, behind_colon);
            let broken =
                name.after.as_deref().is_some_and(has_newline) || has_newline(&member.value.before);
            inner_depth += usize::from(broken);
        }
        layout(&mut member.value, inner_depth, standard);
        rewrite_option(&mut member.value.after, depth + 2, inside);
    }
    let closing = Rules {
        newline_last: expand,
        no_blank_first: composite.members.is_empty(),
        no_blank_last: true,
        outdent_last: true,
        ..Rules::default()
    };
    rewrite(&mut composite.after, depth + 1, closing);
    set_comma(composite, standard);
}

fn set_comma(composite: &mut Composite, standard: bool) {
    let before_comma = composite
        .members
        .last()
        .and_then(|last| last.value.after.as_ref());
    let between_comments =
        before_comma.is_some_and(|extra| !extra.is_empty()) && !composite.after.is_empty();
    if !composite.expand && !between_comments {
        composite.set_trailing_comma(false);
    } else if composite.expand && !standard {
        composite.set_trailing_comma(true);
    }
}

/// An extra that is absent stays absent: only a trailing comma makes one.
fn rewrite_option(extra: &mut Option<Vec<u8>>, depth: usize, rules: Rules) {
    if let Some(extra) = extra {
        rewrite(extra, depth, rules);
    }
}

/// Rewrites white space and comments between two structural characters.
fn rewrite(extra: &mut Vec<u8>, depth: usize, rules: Rules) {
    if extra.contains(&b'\r') {
        *extra = unix_newlines(extra);
    }
    let mut out = Vec::with_capacity(extra.len() + depth + 1);
    if rules.newline_first && !has_newline(extra) {
        out.push(b'\n');
    }
    let mut rest = extra.as_slice();
    while !rest.is_empty() {
        let (space, behind) = rest.split_at(space_len(rest));
        if !space.is_empty() {
            // Two newlines are one blank line, the most there may be.
            out.extend((0..count_newlines(space).min(2)).map(|_| b'\n'));
            rest = behind;
            continue;
        }
        let Some(Some(length)) = comment_len(rest) else {
            break;
        };
        let (comment, behind) = rest.split_at(length);
        if out.ends_with(b"\n") {
            indent(&mut out, depth);
        } else {
            out.push(b' ');
        }
        let comment = String::from_utf8_lossy(comment);
        if let Some(line) = comment
            .strip_suffix('\n')
            .filter(|_| comment.starts_with("//"))
        {
            out.extend_from_slice(line.trim_end().as_bytes());
            // Its newline counts with the white space behind it.
            rest = rest.get(length - 1..).unwrap_or_default();
        } else {
            block_comment(&mut out, &comment, depth);
            rest = behind;
        }
    }
    if rules.newline_last && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    if rules.no_blank_first {
        let newlines = out.iter().take_while(|byte| **byte == b'\n').count();
        out.drain(..newlines.saturating_sub(1));
    }
    while rules.no_blank_last && out.ends_with(b"\n\n") {
        out.pop();
    }
    if out.ends_with(b"\n") {
        indent(&mut out, depth - usize::from(rules.outdent_last));
    } else if !out.is_empty() || rules.space_if_empty {
        out.push(b' ');
    }
    *extra = out;
}

/// `\r\n` and `\n\r` become newlines, any other `\r` a space.
fn unix_newlines(extra: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(extra)
        .replace("\r\n", "\n")
        .replace("\n\r", "\n")
        .replace('\r', " ")
        .into_bytes()
}

fn indent(out: &mut Vec<u8>, depth: usize) {
    out.extend(std::iter::repeat_n(b'\t', depth));
}

/// Copies a block comment. The margin that its later lines share is replaced by the indentation.
fn block_comment(out: &mut Vec<u8>, comment: &str, depth: usize) {
    let mut lines: Vec<&str> = comment.split('\n').map(str::trim_end).collect();
    if lines.len() == 1 {
        out.extend_from_slice(comment.trim_end().as_bytes());
        return;
    }
    let opening = lines.remove(0);
    let mut shared = lines
        .iter()
        .find(|line| !line.is_empty())
        .copied()
        .unwrap_or_default();
    let mut bare_ending = false;
    for line in &lines {
        if line.trim_start_matches([' ', '\t', '\r']) == "*/" {
            bare_ending = true;
            break;
        }
        if !line.is_empty() {
            let pairs = line.bytes().zip(shared.bytes());
            let same = pairs.take_while(|(mine, theirs)| mine == theirs).count();
            if same < line.len() && same < shared.len() {
                shared = shared.get(..same).unwrap_or_else(|| floor(shared, same));
            }
        }
    }
    let margin = space_len(shared.as_bytes());
    let starred =
        lines.iter().all(|line| !line.is_empty()) && shared.as_bytes().get(margin) == Some(&b'*');
    let count = lines.len();
    out.extend_from_slice(opening.as_bytes());
    for (index, line) in lines.iter().enumerate() {
        out.push(b'\n');
        // The line of a bare ending stands at the margin, wherever it was.
        let body = if bare_ending && index + 1 == count {
            "*/"
        } else {
            line.get(margin..).unwrap_or_default()
        };
        if !body.is_empty() {
            indent(out, depth);
            if starred {
                out.push(b' ');
            }
            out.extend_from_slice(body.as_bytes());
        }
    }
}

/// The longest start of `text` that is at most `length` bytes and ends between characters.
fn floor(text: &str, length: usize) -> &str {
    let end = (0..=length)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    text.get(..end).unwrap_or_default()
}

/// Lines up the values of consecutive members, separately in each block of lines.
fn align(value: &mut Value) {
    let Node::Composite(composite) = &mut value.node else {
        return;
    };
    if composite.kind == CompositeKind::Object {
        let mut block: Vec<(usize, usize)> = Vec::new();
        for index in 0..composite.members.len() {
            let Some(member) = composite.members.get(index) else {
                continue;
            };
            let Some(name) = &member.name else { continue };
            let after_name = name.after.as_deref().unwrap_or_default();
            let own_line = has_newline(&name.before)
                && !has_newline(after_name)
                && !has_newline(&member.value.before)
                && !spans_lines(&member.value)
                && !member.value.after.as_deref().is_some_and(has_newline);
            let blank_before = count_newlines(&name.before) > 1;
            let name_len = name.as_literal().map_or(0, <[u8]>::len);
            let width = name_len + after_name.len() + 1 + member.value.before.len();
            if !own_line || blank_before {
                pad(composite, &mut block);
            }
            if own_line {
                block.push((index, width));
            }
        }
        pad(composite, &mut block);
    }
    composite.values_mut().for_each(align);
}

fn pad(composite: &mut Composite, block: &mut Vec<(usize, usize)>) {
    let widest = block
        .iter()
        .map(|(_, width)| *width)
        .max()
        .unwrap_or_default();
    for (index, width) in block.drain(..) {
        if let Some(member) = composite.members.get_mut(index) {
            member
                .value
                .before
                .extend(std::iter::repeat_n(b' ', widest - width));
        }
    }
}

/// Whether there is a newline around some value inside this one.
fn spans_lines(value: &Value) -> bool {
    value.as_composite().is_some_and(|composite| {
        composite.values().any(|inner| {
            has_newline(&inner.before)
                || inner.after.as_deref().is_some_and(has_newline)
                || spans_lines(inner)
        })
    })
}
