//! Compiles the `.proto` files to messages, services and the descriptor set. Needs no installed protoc.

use std::{fs, path::Path};

use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor};
use sha2::{Digest, Sha256};

/// The result of the compilation, from which the tables are rendered.
pub struct Compiled {
    pub pool: DescriptorPool,
    /// The SHA-256 of the descriptor set in lower-case hexadecimal. Comments are left out, because they change no behaviour.
    pub digest: String,
}

pub fn compile(root: &Path, out: &Path) -> Compiled {
    let files = proto_files(&root.join("paddock"), root);
    let with_comments = run_protox(root, &files, true);
    let bytes = with_comments.encode_file_descriptor_set();
    fs::write(out.join("descriptor.bin"), &bytes).expect("descriptor.bin is written");
    let pool = DescriptorPool::decode(bytes.as_slice()).expect("a valid descriptor set");

    let mut set = with_comments.file_descriptor_set();
    set.file.retain(|file| file.package() != "google.api");
    tonic_prost_build::configure()
        .build_transport(false)
        .skip_debug(sensitive_messages(&pool))
        .include_file("messages.rs")
        .out_dir(out)
        .compile_fds(set)
        .expect("the generated Rust code");

    let digest = hex::encode(Sha256::digest(run_protox(root, &files, false).encode_file_descriptor_set()));
    Compiled { pool, digest }
}

fn run_protox(root: &Path, files: &[String], comments: bool) -> protox::Compiler {
    let mut compiler = protox::Compiler::new([root]).expect("a compiler");
    compiler.include_imports(true).include_source_info(comments);
    compiler.open_files(files).expect("valid .proto files");
    compiler
}

fn proto_files(folder: &Path, root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the messages whose `Debug` would print a secret: they have a field that is sensitive or takes a credential.
pub fn sensitive_messages(pool: &DescriptorPool) -> Vec<String> {
    let option = pool.get_extension_by_name("paddock.contract.v1.field").expect("the field option");
    pool.all_messages()
        .filter(|message| message.full_name().starts_with("paddock."))
        .filter(|message| message.fields().any(|field| is_sensitive(&field, &option)))
        .map(|message| message.full_name().to_owned())
        .collect()
}

fn is_sensitive(field: &FieldDescriptor, option: &ExtensionDescriptor) -> bool {
    let options = field.options();
    let value = options.get_extension(option);
    let contract: &DynamicMessage = value.as_message().expect("a FieldContract");
    let sensitive = contract.get_field_by_name("sensitive").expect("the field sensitive");
    let credential = contract.get_field_by_name("credential").expect("the field credential");
    sensitive.as_bool() == Some(true) || credential.as_enum_number() != Some(0)
}
