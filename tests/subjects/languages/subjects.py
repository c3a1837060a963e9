from isola.subjects import Subject, column


class Sparrow(Subject, name="sparrow", prefix="spw"):
    name: str = column(max_length=50, index=True, languages=("de", "sv"))
    song: str | None = column(max_length=50, index=True, languages=("pt-BR",))
    nest: str = column(default="", max_length=50, index=True)
