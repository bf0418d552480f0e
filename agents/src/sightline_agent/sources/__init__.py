"""Where pictures come from: one module per kind of source, all behind `base.Source`."""
