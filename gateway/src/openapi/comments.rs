//! The comments of the `.proto` files, by the position of the declaration that they document.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor};

/// A comment line with this prefix names the route, which the document shows anyway.
const ROUTE: &str = "REST:";

/// The comments, by file and position. Each file is read once.
#[derive(Default)]
pub struct Comments(HashMap<String, HashMap<Vec<i32>, String>>);

impl Comments {
    /// Returns the comment of a method.
    pub fn method(&mut self, method: &MethodDescriptor) -> String {
        self.comment_at(method.parent_file(), method.path())
    }

    /// Returns the comment of a service.
    pub fn service(&mut self, service: &ServiceDescriptor) -> String {
        self.comment_at(service.parent_file(), service.path())
    }

    /// Returns the comment of a field.
    pub fn field(&mut self, field: &FieldDescriptor) -> String {
        self.comment_at(field.parent_file(), field.path())
    }

    fn comment_at(&mut self, file: FileDescriptor, path: &[i32]) -> String {
        let comments = self.0.entry(file.name().to_owned()).or_insert_with(|| read_comments(&file));
        comments.get(path).cloned().unwrap_or_default()
    }
}

/// Reads the comments of a file, without empty lines and lines about routes, by their positions.
fn read_comments(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
    let mut comments = HashMap::new();
    for location in locations {
        let Some(comment) = location.leading_comments.as_deref() else { continue };
        let lines = comment.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(ROUTE));
        comments.insert(location.path.clone(), lines.collect::<Vec<_>>().join(" "));
    }
    comments
}

/// Returns the first sentence of a comment, without its full stop.
pub fn first_sentence(comment: &str) -> &str {
    let end = comment.find(". ").or_else(|| comment.strip_suffix('.').map(str::len));
    end.and_then(|end| comment.get(..end)).unwrap_or(comment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_ends_at_its_full_stop() {
        for (comment, expected) in
            [("A b. C d.", "A b"), ("A b.", "A b"), ("A b", "A b"), ("", ""), ("At 1.5 x. Y", "At 1.5 x")]
        {
            assert_eq!(first_sentence(comment), expected);
        }
    }
}
