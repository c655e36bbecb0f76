//! Where a growing text can be cut, so that what is finished is not read again with every token.

/// Cuts `text` at blank lines outside of fenced code, where the next line begins a new block for certain. The parts
/// joined are the text.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let (mut begin, mut blank, mut fence) = (0, false, None);
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if fence.is_none() && blank && begins_block(line) {
            blocks.push(&text[begin..at]);
            begin = at;
        }
        blank = trimmed.is_empty();
        match (fence, fence_of(line)) {
            (None, Some((mark, count, _))) => fence = Some((mark, count)),
            // A closing fence is as long as the opening one at least, and alone on its line.
            (Some((mark, count)), Some((other, length, true))) if mark == other && length >= count => fence = None,
            _ => {}
        }
        at += line.len();
    }
    if begin < text.len() {
        blocks.push(&text[begin..]);
    }
    blocks
}

/// Whether a line after a blank one belongs to nothing before it: neither indented nor, perhaps, an item of a list.
fn begins_block(line: &str) -> bool {
    line.starts_with(|first: char| {
        !first.is_whitespace() && !first.is_ascii_digit() && !matches!(first, '-' | '*' | '+')
    })
}

/// The mark of a code fence, its length, and whether the line holds nothing else.
fn fence_of(line: &str) -> Option<(u8, usize, bool)> {
    let line = line.trim();
    let mark = *line.as_bytes().first().filter(|mark| matches!(mark, b'`' | b'~'))?;
    let length = line.bytes().take_while(|byte| *byte == mark).count();
    (length >= 3).then_some((mark, length, length == line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_cut_and_lists_and_code_are_not() {
        let text = "One.\n\nTwo\nlines.\n\n- a\n\n- b\n\n  more\n\n```rust\nlet a;\n\nlet b;\n```\n\nEnd";
        let blocks = split(text);
        assert_eq!(
            blocks,
            ["One.\n\n", "Two\nlines.\n\n- a\n\n- b\n\n  more\n\n", "```rust\nlet a;\n\nlet b;\n```\n\n", "End"]
        );
    }

    #[test]
    fn the_parts_are_the_text_and_finished_ones_stay() {
        let text = "A\n\n```\n~~~\n\nx\n````\n\nB\n\n> q\n\n1. c\n\nD ü\n\n\n\nE";
        let whole = split(text);
        assert_eq!(whole.concat(), text);
        for (end, _) in text.char_indices() {
            let parts = split(&text[..end]);
            assert_eq!(parts.concat(), &text[..end]);
            let finished = parts.len().saturating_sub(1);
            assert_eq!(parts[..finished], whole[..finished]);
        }
    }
}
