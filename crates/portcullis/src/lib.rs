//! Portcullis: portcullis.
