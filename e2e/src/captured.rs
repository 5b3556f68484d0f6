//! What a process says.

use std::{
    io::Read,
    sync::{Arc, Mutex},
};

/// What a process writes, collected as it comes.
pub struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Captured {
    /// Reads this until it ends, on a thread of its own.
    pub fn from(source: Option<impl Read + Send + 'static>) -> Captured {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&text);
        let reader = source.map(|mut source| {
            std::thread::spawn(move || {
                let mut chunk = [0; 8192];
                while let Ok(length @ 1..) = source.read(&mut chunk) {
                    into.lock().expect("the text").extend_from_slice(&chunk[..length]);
                }
            })
        });
        Captured { text, reader }
    }

    /// What came so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("the text")).into_owned()
    }

    /// Waits for the rest, after the process ended.
    pub fn settle(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
