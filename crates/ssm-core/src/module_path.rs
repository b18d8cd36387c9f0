//! Where a visitor or mapper of a module is, in the published names.

/// The path of a parameter while a burn module is walked: `blocks.0.lru.nu_log` and the like.
///
/// burn says on entering a module what contains it. A variant of an enum, such as the kind of a model, is no part of a
/// parameter's name and is passed over.
///
/// # Example
/// ```
/// use ssm_core::ModulePath;
///
/// let mut path = ModulePath::default();
/// for (name, container) in [("Lru", "Enum:Model"), ("blocks", "Struct:Classifier"), ("0", "Vec")] {
///     path.enter(name, container);
/// }
/// assert_eq!(path.name(), "blocks.0");
/// path.exit("Vec");
/// assert_eq!(path.name(), "blocks");
/// ```
#[derive(Clone, Debug, Default)]
pub struct ModulePath {
    names: Vec<String>,
}

impl ModulePath {
    /// For `enter_module`: `name` inside a container of this type.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        if is_named(container_type) {
            self.names.push(name.to_owned());
        }
    }

    /// For `exit_module`, with the type that [`enter`](Self::enter) was told.
    pub fn exit(&mut self, container_type: &str) {
        if is_named(container_type) {
            self.names.pop();
        }
    }

    /// Name of the module or parameter that was entered last.
    pub fn name(&self) -> String {
        self.names.join(".")
    }
}

/// Whether what is inside a container is named after its place in it.
fn is_named(container_type: &str) -> bool {
    !container_type.starts_with("Enum:")
}
