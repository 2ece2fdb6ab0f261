"""Which models, versions and labels there are: loading, warming up, handing out to requests, freeing."""
