"""What pytest does not look into for examples: modules that load other frameworks."""

collect_ignore = ["nervecode/integrations"]
