//! Explanations and differences as text for people.

use super::diff::{Described, Diff, Direction};
use super::explain::{Explanation, Named, Pair, Reason, Verdict};
use std::fmt::{Display, Formatter, Result};

impl Display for Explanation {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        self.pairs.iter().try_for_each(|pair| pair.fmt(out))?;
        if self.truncated {
            writeln!(out, "… and more pairs")?;
        }
        Ok(())
    }
}

impl Display for Pair {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        writeln!(out, "{} -> {}: {verdict}", self.src.name, self.dst.name)?;
        if self.rules.is_empty() {
            writeln!(out, "  no rule has either of them")?;
        }
        self.rules.iter().try_for_each(|reason| reason.fmt(out))
    }
}

impl Display for Reason {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        write!(out, "  line {} ({}): ", self.line, self.section)?;
        let text = match &self.verdict {
            Verdict::Allows => "allows it",
            Verdict::SourceNotIncluded => "has the destination, not the source",
            Verdict::DestinationNotIncluded => "has the source, not the destination",
            Verdict::PortNotIncluded => "has both, but not the port",
            Verdict::ProtocolNotIncluded => "has both, but not the protocol",
            Verdict::PostureFailed { .. } => "has both, but the source's posture fails",
        };
        writeln!(out, "{text}")?;
        if let Verdict::PostureFailed { postures } = &self.verdict {
            for failed in postures {
                let (name, assertion) = (&failed.name, &failed.assertion);
                writeln!(out, "    {name} (line {}): {assertion}", failed.line)?;
            }
        }
        for (side, list) in [("src", &self.src), ("dst", &self.dst)] {
            for named in list {
                writeln!(out, "    {side} {named}")?;
            }
        }
        Ok(())
    }
}

impl Display for Named {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        out.write_str(&self.text)?;
        if self.members.is_empty() {
            return Ok(());
        }
        write!(out, " = {}", self.members.join(", "))?;
        match self.member_count {
            Some(count) if count > self.members.len() => write!(out, ", … ({count})"),
            _ => Ok(()),
        }
    }
}

impl Display for Described {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let parts: Vec<&str> = self
            .selectors
            .iter()
            .chain(&self.devices)
            .map(String::as_str)
            .collect();
        let devices = if self.count == 1 { "device" } else { "devices" };
        write!(out, "{} ({} {devices})", parts.join(", "), self.count)
    }
}

const fn sign(direction: Direction) -> char {
    match direction {
        Direction::Gained => '+',
        Direction::Lost => '-',
    }
}

impl Display for Diff {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        if *self == Self::default() {
            return writeln!(out, "nothing changes");
        }
        for change in &self.access {
            let through = change
                .through
                .as_ref()
                .map(|text| format!("{text} through "));
            writeln!(
                out,
                "{} {} -> {}{}: {}",
                sign(change.direction),
                change.src,
                through.unwrap_or_default(),
                change.dst,
                change.what.join(", ")
            )?;
        }
        for change in &self.ssh {
            let (sign, users) = (sign(change.direction), change.users.join(", "));
            writeln!(
                out,
                "{sign} ssh {}: {} -> {} as {users}",
                change.action, change.src, change.dst
            )?;
        }
        for change in &self.approvals {
            let sign = sign(change.direction);
            writeln!(
                out,
                "{sign} approval of {}: {}",
                change.route, change.devices
            )?;
        }
        for change in &self.attributes {
            let sign = sign(change.direction);
            writeln!(
                out,
                "{sign} attribute {}: {}",
                change.attribute, change.devices
            )?;
        }
        for cut in &self.cut {
            let protocol = crate::port::show_protocol(cut.protocol);
            writeln!(
                out,
                "! cuts {} -> {} {protocol}:{}",
                cut.src, cut.dst, cut.port
            )?;
        }
        Ok(())
    }
}
