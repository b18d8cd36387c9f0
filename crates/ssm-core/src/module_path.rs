//! Where a visitor or mapper of a module is.

/// The path of a parameter while a burn module is walked.
///
/// burn says on entering a module what contains it. A variant of an enum, such as the kind of a layer, is no part of a
/// parameter's name.
///
/// # Example
/// ```
/// use ssm_core::ModulePath;
///
/// let mut path = ModulePath::default();
/// for (name, container) in [("layer", "Struct:Block"), ("Lru", "Enum:Layer"), ("D", "Struct:Lru")] {
///     path.enter(name, container);
/// }
/// assert_eq!(path.name(), "layer.D");
/// path.exit("Struct:Lru");
/// assert_eq!(path.name(), "layer");
/// ```
#[derive(Clone, Debug, Default)]
pub struct ModulePath {
    elements: Vec<String>,
    is_variant: Vec<bool>,
}

impl ModulePath {
    /// For `enter_module`: `name` inside a container of this type.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        self.elements.push(name.to_owned());
        self.is_variant.push(container_type.starts_with("Enum:"));
    }

    /// For `exit_module`, with the type that [`enter`](Self::enter) was told.
    pub fn exit(&mut self, _container_type: &str) {
        self.elements.pop();
        self.is_variant.pop();
    }

    /// Name of the module or parameter that was entered last.
    pub fn name(&self) -> String {
        let named = self.elements.iter().zip(&self.is_variant);
        let named = named.filter(|(_, is_variant)| !**is_variant);
        let named: Vec<&str> = named.map(|(name, _)| name.as_str()).collect();
        named.join(".")
    }

    /// All that was entered, variants of enums included.
    pub(crate) fn elements(&self) -> &[String] {
        &self.elements
    }
}
