//! What a line in the list of policies stands for.

/// The types that know all policies, from one line for each: its word, its variant, and its type in its module, which also
/// holds what the policy says, `Cut` and `Keep`.
macro_rules! policies {
    ($($word:literal => $variant:ident($module:ident::$rule:ident),)+) => {
        $(pub use self::$module::$rule;)+

        /// A rule that turns the spectra of a check into orders, with its parameters.
        ///
        /// Written with its word as `kind` beside its parameters; others than its own are refused.
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "kind")]
        #[non_exhaustive]
        pub enum Policy {
            $(
                #[doc = concat!("[`", stringify!($rule), "`].")]
                #[serde(rename = $word)]
                $variant($rule),
            )+
        }

        impl Policy {
            /// Its name.
            pub fn kind(self) -> PolicyKind {
                match self {
                    $(Self::$variant(_) => PolicyKind::$variant,)+
                }
            }

            pub(crate) fn rule(&self) -> &dyn Rule {
                match self {
                    $(Self::$variant(rule) => rule,)+
                }
            }
        }

        /// The name of a policy; its parameters are keys of their own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum PolicyKind {
            $(
                #[doc = concat!("`", $word, "`: [`", stringify!($rule), "`].")]
                #[serde(rename = $word)]
                $variant,
            )+
        }

        impl PolicyKind {
            /// Every one there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As it is written.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Whether it can ever ask for a cut.
            pub fn cuts(self) -> bool {
                match self {
                    $(Self::$variant => <$rule as Configured>::CUTS,)+
                }
            }

            /// The keys of a configuration that it reads.
            pub fn keys(self) -> &'static [Key] {
                match self {
                    $(Self::$variant => <$rule as Configured>::KEYS,)+
                }
            }

            /// The policy of this kind from a table of its [`keys`](Self::keys), none of another name beside them. Their
            /// ranges are checked by [`Policy::validate`].
            ///
            /// # Errors
            /// A key is missing, of another type, or contradicts another one.
            pub fn with_keys<'de, D: Deserializer<'de>>(self, keys: D) -> Result<Policy, D::Error> {
                match self {
                    $(Self::$variant => <$rule as Configured>::from_keys(keys).map(Policy::$variant),)+
                }
            }
        }

        /// What asked for a cut: the policy, and whether the layer was looked at alone.
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "reason")]
        #[non_exhaustive]
        pub enum CutReason {
            $(
                #[doc = concat!("[`", stringify!($rule), "`].")]
                #[serde(rename = $word)]
                $variant($module::Cut),
            )+
        }

        impl fmt::Display for CutReason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(cut) => cut.fmt(f),)+
                }
            }
        }

        /// Why a policy left a layer alone, where it has reasons of its own.
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        pub enum PolicyKeep {
            $(
                #[doc = concat!("[`", stringify!($rule), "`].")]
                $variant($module::Keep),
            )+
        }

        impl fmt::Display for PolicyKeep {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(keep) => keep.fmt(f),)+
                }
            }
        }

        $(
            impl From<$rule> for Policy {
                fn from(rule: $rule) -> Self {
                    Self::$variant(rule)
                }
            }

            impl From<$module::Cut> for CutReason {
                fn from(cut: $module::Cut) -> Self {
                    Self::$variant(cut)
                }
            }

            impl From<$module::Keep> for KeepReason {
                fn from(keep: $module::Keep) -> Self {
                    Self::Policy(PolicyKeep::$variant(keep))
                }
            }
        )+
    };
}

/// `Cut` or `Keep` of a policy that never has to say why.
macro_rules! nothing {
    ($name:ident) => {
        /// This policy has nothing to say here.
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        pub enum $name {}

        impl std::fmt::Display for $name {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match *self {}
            }
        }
    };
}

pub(super) use {nothing, policies};
