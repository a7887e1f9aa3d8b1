"""The contract between training and flight: spec, preprocessing, bundle, errors. Imports none of the other packages."""
