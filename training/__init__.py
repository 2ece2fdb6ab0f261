"""Everything before there is a model to serve: datasets, configuration, training, tracking, studies."""
