"""The stages: one verb a file, handed built things, returning a finding; none imports another."""
