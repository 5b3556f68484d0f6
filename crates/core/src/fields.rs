//! The fields (headers or trailers) of a message: a flat list over one buffer.
//!
//! Names and values are ranges of the bytes as they came, in their order and case. Edits append to the buffer or mark
//! an entry dead; nothing is moved. Buffers are kept per thread and used again, so that a plain request allocates
//! nothing here. Looking a name up is a scan, which for the dozen fields of a real message beats any hash map.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{known::Known, line::Line};

/// A flat list of fields. Names compare without ASCII case; order and duplicates are kept.
///
/// A pointer wide: messages are handed from stage to stage, and what is handed on is copied.
#[derive(Default)]
pub struct Fields {
    /// Taken from the thread's spares with the first thing that is put in.
    store: Option<Box<Store>>,
}

/// What a list of fields is made of.
#[derive(Default)]
struct Store {
    bytes: Vec<u8>,
    list: Vec<Entry>,
    /// Text that is not a field: path, query, authority. Apart from the bytes, so that it is known to be UTF-8.
    text: String,
    /// One bit per known name that is present and live.
    present: u64,
}

/// A range of the buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
    live: bool,
}

/// Buffers larger than this are not kept for later use.
const KEPT_BYTES: usize = 16 * 1024;
/// How many buffers one thread keeps.
const KEPT_BUFFERS: usize = 1024;

/// The store of lists that have none.
static NOTHING: Store = Store { bytes: Vec::new(), list: Vec::new(), text: String::new(), present: 0 };

thread_local! {
    #[allow(clippy::vec_box)] // the boxes are what is kept
    static SPARE: RefCell<Vec<Box<Store>>> = const { RefCell::new(Vec::new()) };
}

/// An empty store, a used one of this thread where there is one.
#[inline(never)] // once for each message, while whoever asks for the store does so with each field
fn spare() -> Box<Store> {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
    // Room for a browser's request with what is added on the way: growing in steps would copy it several times.
    let fresh = || Store {
        bytes: Vec::with_capacity(2048),
        list: Vec::with_capacity(32),
        text: String::with_capacity(128),
        present: 0,
    };
    spare.unwrap_or_else(|| Box::new(fresh()))
}

impl Store {
    fn push(&mut self, entry: Entry) {
        self.present |= entry.known.bit();
        self.list.push(entry);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.text.clear();
        self.present = 0;
    }
}

impl Fields {
    /// An empty list.
    pub fn new() -> Fields {
        Fields::default()
    }

    fn all(&self) -> &Store {
        self.store.as_deref().unwrap_or(&NOTHING)
    }

    #[inline]
    fn all_mut(&mut self) -> &mut Store {
        match &mut self.store {
            Some(store) => store,
            none => none.insert(spare()),
        }
    }

    /// Copies the raw bytes of a head into the buffer; returns the offset at which they stand there.
    pub fn adopt(&mut self, raw: &[u8]) -> u32 {
        let bytes = &mut self.all_mut().bytes;
        let at = bytes.len() as u32;
        bytes.extend_from_slice(raw);
        at
    }

    /// Declares a field whose name and value already stand in the buffer (see [`Fields::adopt`]).
    pub fn push_spans(&mut self, name: Span, value: Span) -> Known {
        let known = Known::of(self.slice(name));
        self.push_known(name, value, known);
        known
    }

    /// Puts text into the buffer that is not a field (a path, an authority).
    pub fn store(&mut self, text: &[u8]) -> Span {
        let start = self.adopt(text);
        Span { start, end: start + text.len() as u32 }
    }

    /// Keeps text that is not a field. Its range is for [`Fields::text`] alone.
    pub fn store_text(&mut self, text: &str) -> Span {
        let kept = &mut self.all_mut().text;
        let start = kept.len() as u32;
        kept.push_str(text);
        Span { start, end: kept.len() as u32 }
    }

    /// Keeps text in lower case (ASCII).
    pub fn store_lower(&mut self, text: &str) -> Span {
        let span = self.store_text(text);
        if let Some(stored) = self.all_mut().text.get_mut(span.start as usize..) {
            stored.make_ascii_lowercase();
        }
        span
    }

    /// Keeps a part of the buffer as text in lower case; nothing of it when it is not UTF-8.
    pub fn store_lower_of(&mut self, part: Span) -> Span {
        let Store { bytes, text, .. } = self.all_mut();
        let start = text.len() as u32;
        let part = bytes.get(part.start as usize..part.end as usize).unwrap_or_default();
        text.push_str(std::str::from_utf8(part).unwrap_or_default());
        if let Some(stored) = text.get_mut(start as usize..) {
            stored.make_ascii_lowercase();
        }
        Span { start, end: text.len() as u32 }
    }

    /// Text kept with [`Fields::store_text`]; empty when the range lies outside.
    pub fn text(&self, span: Span) -> &str {
        self.all().text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Declares a field that already stands in the buffer and whose name has been classified before.
    pub fn push_known(&mut self, name: Span, value: Span, known: Known) {
        self.all_mut().push(Entry { name, value, known, live: true });
    }

    /// The bytes of a range of this buffer; empty when it lies outside.
    pub fn slice(&self, span: Span) -> &[u8] {
        self.all().bytes.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Is a known name present?
    pub fn has(&self, known: Known) -> bool {
        self.all().present & known.bit() != 0
    }

    /// Is any name of a set (of [`Known::bit`]s) present?
    pub fn has_any(&self, set: u64) -> bool {
        self.all().present & set & !Known::Other.bit() != 0
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let known = Known::of(name.as_bytes());
        let found = self.all().list.iter().find(|e| e.live && self.is(e, known, name.as_bytes()));
        found.map(|e| self.slice(e.value))
    }

    /// The first value of a name, when it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first value of a known name.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.known_all(known).next()
    }

    /// The first value of a known name, when it is UTF-8.
    pub fn known_str(&self, known: Known) -> Option<&str> {
        self.known(known).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Where the first value of a known name stands in the buffer.
    pub fn known_span(&self, known: Known) -> Option<Span> {
        let list: &[Entry] = if self.has(known) { &self.all().list } else { &[] };
        list.iter().find(|e| e.live && e.known == known).map(|e| e.value)
    }

    /// All values of a known name, in order.
    pub fn known_all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let list: &[Entry] = if self.has(known) { &self.all().list } else { &[] };
        list.iter().filter(move |e| e.live && e.known == known).map(|e| self.slice(e.value))
    }

    /// All values of a name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let known = Known::of(name.as_bytes());
        self.all()
            .list
            .iter()
            .filter(move |e| e.live && self.is(e, known, name.as_bytes()))
            .map(|e| self.slice(e.value))
    }

    /// Is a name present?
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Removes every field of the name, then appends one.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.append(name, value);
    }

    /// Appends a field. Bytes that may not stand in a value (CR, LF, NUL) become spaces, so that no value, wherever
    /// it came from, can start a new field (RFC 9110 §5.5).
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.append_classified(Known::of(name.as_bytes()), name, value.as_ref());
    }

    /// Appends a field whose name has been classified before; see [`Fields::append`].
    pub fn append_classified(&mut self, known: Known, name: &str, value: &[u8]) {
        // Stored as the line goes out, so that neighbours leave in one copy.
        let name_span = self.store(name.as_bytes());
        self.adopt(b": ");
        let value_span = self.store(value);
        self.adopt(b"\r\n");
        if memchr::memchr3(b'\r', b'\n', 0, value).is_some()
            && let bytes = &mut self.all_mut().bytes
            && let Some(stored) = bytes.get_mut(value_span.start as usize..value_span.end as usize)
        {
            stored.iter_mut().filter(|b| matches!(**b, b'\r' | b'\n' | 0)).for_each(|b| *b = b' ');
        }
        self.push_known(name_span, value_span, known);
    }

    /// Appends a field that was prepared beforehand: one copy, no look at its bytes.
    pub fn append_line(&mut self, line: &Line) {
        let at = self.adopt(line.bytes());
        let (name, value) = line.spans();
        let moved = |span: Span| Span { start: span.start + at, end: span.end + at };
        self.all_mut().push(Entry {
            name: moved(name),
            value: moved(value),
            known: line.known(),
            live: true,
        });
    }

    /// Removes every field of the prepared field's name, then appends it.
    pub fn set_line(&mut self, line: &Line) {
        self.remove_classified(line.known(), line.name().as_bytes());
        self.append_line(line);
    }

    /// Removes every field of a name that was classified beforehand (by [`Known::of`]); tells whether there was one.
    pub fn remove_classified(&mut self, known: Known, name: &[u8]) -> bool {
        if known == Known::Other { self.remove_other(name) } else { self.remove_known(known) }
    }

    /// Removes every field of the name; tells whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_classified(Known::of(name.as_bytes()), name.as_bytes())
    }

    fn remove_other(&mut self, name: &[u8]) -> bool {
        let Some(Store { bytes, list, .. }) = self.store.as_deref_mut() else { return false };
        let mut found = false;
        for entry in list.iter_mut().filter(|e| e.live && e.known == Known::Other) {
            let text = bytes.get(entry.name.start as usize..entry.name.end as usize).unwrap_or_default();
            if text.eq_ignore_ascii_case(name) {
                entry.live = false;
                found = true;
            }
        }
        found
    }

    /// Removes every field of a known name; tells whether there was one.
    pub fn remove_known(&mut self, known: Known) -> bool {
        let found = self.has(known) && known != Known::Other;
        if found {
            self.remove_set(known.bit());
        }
        found
    }

    /// Removes every field whose name is in a set of [`Known::bit`]s.
    pub fn remove_set(&mut self, set: u64) {
        let set = set & !Known::Other.bit();
        if self.all().present & set != 0 {
            let store = self.all_mut();
            store.list.iter_mut().filter(|e| e.known.bit() & set != 0).for_each(|e| e.live = false);
            store.present &= !set;
        }
    }

    /// Keeps the fields for which `keep(known, name, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let Some(Store { bytes, list, present, .. }) = self.store.as_deref_mut() else { return };
        let text = |span: Span| bytes.get(span.start as usize..span.end as usize).unwrap_or_default();
        *present = 0;
        for entry in list.iter_mut().filter(|e| e.live) {
            entry.live = keep(entry.known, text(entry.name), text(entry.value));
            if entry.live {
                *present |= entry.known.bit();
            }
        }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.all().list.iter().filter(|e| e.live).map(|e| (self.slice(e.name), self.slice(e.value)))
    }

    /// Names and values with the classification of each name.
    pub fn iter_known(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.all().list.iter().filter(|e| e.live).map(|e| (e.known, self.slice(e.name), self.slice(e.value)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.all().list.iter().filter(|e| e.live).count()
    }

    /// Is there no field at all?
    pub fn is_empty(&self) -> bool {
        !self.all().list.iter().any(|e| e.live)
    }

    /// Forgets all fields and text; the buffer stays.
    pub fn clear(&mut self) {
        if let Some(store) = &mut self.store {
            store.clear();
        }
    }

    /// Writes `name: value CRLF` for every field. Neighbours that still stand in the buffer as they go out are copied
    /// as one run.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut run: Option<Span> = None;
        let Store { bytes, list, .. } = self.all();
        for entry in list.iter().filter(|e| e.live) {
            let canonical = bytes.get(entry.name.end as usize..entry.value.start as usize) == Some(b": ")
                && bytes.get(entry.value.end as usize..entry.value.end as usize + 2) == Some(b"\r\n");
            let line = Span { start: entry.name.start, end: entry.value.end + 2 };
            if !canonical {
                self.flush_run(run.take(), out);
                out.extend_from_slice(self.slice(entry.name));
                out.extend_from_slice(b": ");
                out.extend_from_slice(self.slice(entry.value));
                out.extend_from_slice(b"\r\n");
                continue;
            }
            run = match run {
                Some(open) if open.end == line.start => Some(Span { start: open.start, end: line.end }),
                other => {
                    self.flush_run(other, out);
                    Some(line)
                }
            };
        }
        self.flush_run(run, out);
    }

    fn flush_run(&self, run: Option<Span>, out: &mut Vec<u8>) {
        if let Some(run) = run {
            out.extend_from_slice(self.slice(run));
        }
    }

    fn is(&self, entry: &Entry, known: Known, name: &[u8]) -> bool {
        entry.known == known && (known != Known::Other || self.slice(entry.name).eq_ignore_ascii_case(name))
    }

    /// As a hash map, for libraries that want one. Names or values that it cannot hold are left out.
    pub fn to_header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.all().list.len());
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    /// Appends all of a hash map.
    pub fn extend_from_map(&mut self, map: &HeaderMap) {
        for (name, value) in map {
            self.append(name.as_str(), value.as_bytes());
        }
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        let Some(mut store) = self.store.take() else { return };
        if store.bytes.capacity() > KEPT_BYTES {
            return;
        }
        store.clear();
        // The thread may be ending; then the buffers simply go.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT_BUFFERS {
                spare.push(store);
            }
        });
    }
}

impl Clone for Fields {
    fn clone(&self) -> Fields {
        let mut copy = Fields::new();
        if let Some(store) = &self.store {
            let to = copy.all_mut();
            to.bytes.extend_from_slice(&store.bytes);
            to.list.extend_from_slice(&store.list);
            to.text.push_str(&store.text);
            to.present = store.present;
        }
        copy
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(n, v)| (text(n), text(v)))).finish()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Fields {
        let mut fields = Fields::new();
        pairs.into_iter().for_each(|(name, value)| fields.append(name, value));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn set_replaces_all_and_keeps_the_rest_in_order() {
        let mut fields: Fields = [("A", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        fields.set("a", "9");
        assert_eq!(written(&fields), "b: 2\r\na: 9\r\n");
        assert!(!fields.remove("zzz"));
        assert!(fields.remove("B"));
        assert_eq!(fields.len(), 1);
    }

    #[test]
    fn a_value_cannot_start_a_field() {
        let mut fields = Fields::new();
        fields.append("x", "1\r\nevil: yes");
        assert_eq!(written(&fields), "x: 1  evil: yes\r\n");
    }

    #[test]
    fn raw_lines_go_out_as_one_run_and_odd_ones_are_mended() {
        let mut fields = Fields::new();
        let raw = b"A: 1\r\nB:2\r\nC: 3\r\nD: 4\r\n";
        fields.adopt(raw);
        for (name, value) in [((0, 1), (3, 4)), ((6, 7), (8, 9)), ((11, 12), (14, 15)), ((17, 18), (20, 21))]
        {
            fields.push_spans(Span { start: name.0, end: name.1 }, Span { start: value.0, end: value.1 });
        }
        assert_eq!(written(&fields), "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n");
        fields.remove("c");
        assert_eq!(written(&fields), "A: 1\r\nB: 2\r\nD: 4\r\n");
    }

    #[test]
    fn known_names_are_bits() {
        let mut fields: Fields = [("Upgrade", "websocket"), ("Connection", "upgrade")].into_iter().collect();
        assert!(fields.has(Known::Upgrade) && fields.has_any(Known::HOP_BY_HOP));
        fields.remove_set(Known::HOP_BY_HOP);
        assert!(fields.is_empty() && !fields.has(Known::Upgrade));
    }
}
