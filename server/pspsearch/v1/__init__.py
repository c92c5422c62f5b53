"""The public API: everything else in this folder is made from protos/pspsearch/v1 by `make protos`."""
