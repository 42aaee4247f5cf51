//! What `wit-bindgen` makes of the contract. Nothing here is written by hand, and nothing else of the SDK is generated.
//!
//! The contract's two worlds are put together from three smaller ones, since both export `plugin` and one crate can hold
//! the code of an export once. The linker adds up the worlds that a component uses; what it does not import is left out.

#![allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused,
    reason = "generated code keeps its generator's style; its lints depend on the target, so `expect` cannot be used"
)]

pub mod configurable {
    wit_bindgen::generate!({
        inline: "package witgate:sdk; world configurable { export witgate:auth/plugin@0.1.0; }",
        path: "../../wit/auth@0.1.0",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_configurable",
        type_section_suffix: "configurable",
    });
}

pub mod policy {
    wit_bindgen::generate!({
        inline: "package witgate:sdk; world deciding {
            import witgate:auth/log@0.1.0;
            export witgate:auth/permission-policy@0.1.0;
        }",
        path: "../../wit/auth@0.1.0",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_deciding",
        type_section_suffix: "policy",
    });
}

pub mod strategy {
    wit_bindgen::generate!({
        inline: "package witgate:sdk; world authenticating {
            import witgate:auth/secrets@0.1.0;
            export witgate:auth/authentication-strategy@0.1.0;
        }",
        path: "../../wit/auth@0.1.0",
        with: {
            "witgate:auth/types@0.1.0": crate::bindings::policy::witgate::auth::types,
            "witgate:auth/secrets@0.1.0": generate,
            "witgate:auth/authentication-strategy@0.1.0": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_authenticating",
        type_section_suffix: "strategy",
    });
}

/// What a strategy that goes out imports beside its world; see `wit/README.md`.
pub mod outgoing {
    wit_bindgen::generate!({
        inline: "package witgate:sdk; world outgoing {
            import wasi:http/outgoing-handler@0.2.12;
            import wasi:clocks/wall-clock@0.2.12;
        }",
        path: ["wit/io.wit", "wit/clocks.wit", "wit/http.wit"],
        generate_all,
        type_section_suffix: "outgoing",
    });
}

/// What is another in `auth@0.2.0`; what is the same has the types of 0.1.0.
pub mod v0_2 {
    pub mod configurable {
        wit_bindgen::generate!({
            inline: "package witgate:sdk; world configurable-next { export witgate:auth/plugin@0.2.0; }",
            path: "../../wit/auth@0.2.0",
            generate_all,
            pub_export_macro: true,
            export_macro_name: "export_configurable_v0_2",
            type_section_suffix: "configurable-v0-2",
        });
    }

    pub mod policy {
        wit_bindgen::generate!({
            inline: "package witgate:sdk; world answering { export witgate:auth/permission-policy@0.2.0; }",
            path: "../../wit/auth@0.2.0",
            with: {
                "witgate:auth/types@0.2.0": crate::bindings::policy::witgate::auth::types,
                "witgate:auth/permission-policy@0.2.0": generate,
            },
            pub_export_macro: true,
            export_macro_name: "export_answering_v0_2",
            type_section_suffix: "policy-v0-2",
        });
    }
}
